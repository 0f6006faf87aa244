"use strict";

const rowsBox = document.getElementById("rows");
const rows = [...rowsBox.querySelectorAll(".row")];
const byId = (id) => document.getElementById(id);

// ---- sounds: one at a time, with a playhead in all plots of its row

const mediaOf = (player) => player.querySelector("audio, video");
const allMedia = [...rowsBox.querySelectorAll("audio, video")];

function playOrPause(player) {
  const media = mediaOf(player);
  if (media.paused) {
    // Another click may interrupt play(): not an error.
    media.play().catch((error) => { if (error.name !== "AbortError") throw error; });
  } else {
    media.pause();
  }
}

function silence(except) {
  allMedia.forEach((media) => { if (media !== except) media.pause(); });
}

function drawPlayhead(media) {
  const row = media.closest(".row");
  row.style.setProperty("--at", Math.min(1, media.currentTime / Number(row.dataset.seconds)));
  if (!media.paused) requestAnimationFrame(() => drawPlayhead(media));
}

function showState(media) {
  const playing = !media.paused;
  const player = media.closest(".player");
  player.classList.toggle("playing", playing);
  player.querySelector(".listen").setAttribute("aria-pressed", String(playing));
  const row = media.closest(".row");
  row.classList.toggle("playing", row.querySelector(".player.playing") !== null);
}

function playFrom(player, share) {
  const media = mediaOf(player);
  silence(media);
  media.currentTime = share * Number(player.closest(".row").dataset.seconds);
  if (media.paused) playOrPause(player);
}

allMedia.forEach((media) => {
  media.addEventListener("play", () => {
    silence(media);
    showState(media);
    drawPlayhead(media);
  });
  media.addEventListener("pause", () => showState(media));
});

function toggleHeat(panel) {
  const heat = panel.querySelector(".heat");
  heat.hidden = !heat.hidden;
  panel.querySelector(".heat-toggle").setAttribute("aria-pressed", String(!heat.hidden));
}

rowsBox.addEventListener("click", (event) => {
  const panel = event.target.closest(".panel");
  if (!panel) return;
  const area = event.target.closest(".area");
  if (event.target.closest(".listen, .player .screen")) {
    playOrPause(panel);
  } else if (event.target.closest(".heat-toggle, .screen")) {
    toggleHeat(panel);
  } else if (area && panel.classList.contains("player")) {
    const box = area.getBoundingClientRect();
    playFrom(panel, (event.clientX - box.left) / box.width);
  }
});

// ---- sorting and filtering

const sort = byId("sort");
const direction = byId("direction");
const category = byId("category");
let bestFirst = true;

function scoreOf(row) {
  const value = row.dataset[sort.value];
  return value === "" ? null : Number(value);
}

function compare(one, other) {
  const [a, b] = [scoreOf(one), scoreOf(other)];
  if (a === null || b === null) return (a === null) - (b === null); // not scored: last in both directions
  if (a === b) return 0;
  return a > b === bestFirst ? -1 : 1;
}

function sortRows() {
  silence();
  const sorted = sort.value ? [...rows].sort(compare) : rows;
  rowsBox.append(...sorted);
  direction.disabled = !sort.value;
  direction.textContent = bestFirst ? "best first" : "worst first";
}

function filterRows() {
  rows.forEach((row) => {
    row.hidden = category.value !== "" && !row.dataset.categories.split(" ").includes(category.value);
    if (row.hidden) row.querySelectorAll("audio, video").forEach((media) => media.pause());
  });
  byId("count").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} mixtures`;
}

sort.addEventListener("change", sortRows);
category.addEventListener("change", filterRows);
direction.addEventListener("click", () => {
  bestFirst = !bestFirst;
  sortRows();
});

// ---- keyboard

let current = null; // the row that keys act on
rowsBox.addEventListener("focusin", (event) => { current = event.target.closest(".row"); });

function goToRow(step) {
  const visible = [...rowsBox.querySelectorAll(".row:not([hidden])")];
  const at = visible.indexOf(current);
  const next = at < 0 ? visible[0] : visible[Math.min(Math.max(at + step, 0), visible.length - 1)];
  if (!next) return;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "start" });
}

function goToSound(step) {
  const buttons = [...current.querySelectorAll(".listen, .heat-toggle")];
  const at = buttons.indexOf(document.activeElement);
  buttons[Math.min(Math.max(at + step, 0), buttons.length - 1)].focus();
}

function playPredicted(number) {
  const video = current.querySelectorAll("video")[number - 1];
  if (video) playOrPause(video.closest(".player"));
}

function playCurrent() {
  const playing = current.querySelector(".player.playing");
  playOrPause(playing || current.querySelector(".player"));
}

function onKey(event) {
  const { key, target } = event;
  const typing = target.closest("select, input, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  const inRow = current !== null && !current.hidden;
  if (key === "j") goToRow(1);
  else if (key === "k") goToRow(-1);
  else if (key === "d") toggleTheme();
  else if (key === "Escape") silence();
  else if (inRow && key === "ArrowRight") goToSound(1);
  else if (inRow && key === "ArrowLeft") goToSound(-1);
  else if (inRow && /^[1-9]$/.test(key)) playPredicted(Number(key));
  else if (inRow && key === " " && !target.closest("button, a, summary")) playCurrent();
  else return;
  event.preventDefault(); // no scrolling
}

document.addEventListener("keydown", onKey);
