"use strict";

const rowsBox = document.getElementById("rows");
const rows = [...rowsBox.querySelectorAll(".row")]; // in evaluation order
const byId = (id) => document.getElementById(id);

// ---- sounds: one at a time, with a playhead in all plots of its row

const mediaOf = (player) => player.querySelector("audio, video");
const allMedia = [...rowsBox.querySelectorAll("audio, video")];

// A sound that another one interrupts starts from its beginning when it is next played.
function silence(except) {
  allMedia.forEach((media) => {
    if (media === except || media.paused) return;
    media.pause();
    media.currentTime = 0;
  });
}

function playOrPause(player) {
  const media = mediaOf(player);
  if (media.paused) {
    silence(media);
    // Another click may interrupt play(): not an error.
    media.play().catch((error) => { if (error.name !== "AbortError") throw error; });
  } else {
    media.pause();
  }
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
    showState(media);
    if (media.paused) return; // the event of a sound that another click has interrupted
    silence(media);
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

function scoreOf(row, key) {
  const value = row.dataset[key];
  return value === "" ? null : Number(value);
}

const isShown = (row) => !row.hidden;

function sortedBy(key, best) {
  return [...rows].sort((one, other) => {
    const [a, b] = [scoreOf(one, key), scoreOf(other, key)];
    if (a === null || b === null) return (a === null) - (b === null); // not scored: last in both directions
    if (a === b) return 0;
    return a > b === best ? -1 : 1;
  });
}

// The scored rows that are shown, from the highest SDR to the lowest.
const ranked = () => sortedBy("sdr", true).filter((row) => isShown(row) && scoreOf(row, "sdr") !== null);
const medianOf = (ranking) => Math.floor(ranking.length / 2);

function nearestToMedian() {
  const ranking = ranked();
  const distance = (row) => {
    const rank = ranking.indexOf(row);
    return rank < 0 ? rows.length : Math.abs(rank - medianOf(ranking));
  };
  return [...rows].sort((one, other) => distance(one) - distance(other));
}

function sortRows() {
  silence();
  const isScore = sort.value !== "" && sort.value !== "typical";
  if (isScore) rowsBox.append(...sortedBy(sort.value, bestFirst));
  else rowsBox.append(...(sort.value ? nearestToMedian() : rows));
  direction.disabled = !isScore;
  direction.textContent = bestFirst ? "best first" : "worst first";
}

function filterRows() {
  rows.forEach((row) => {
    row.hidden = category.value !== "" && !row.dataset.categories.split(" ").includes(category.value);
  });
  byId("count").textContent = `${rows.filter(isShown).length} of ${rows.length} mixtures`;
  showJumps();
  sortRows();
}

sort.addEventListener("change", sortRows);
category.addEventListener("change", filterRows);
direction.addEventListener("click", () => {
  bestFirst = !bestFirst;
  sortRows();
});

// ---- folding, and going to a row

let current = null; // the row that keys act on

const JUMPS = {
  median: (ranking) => ranking[medianOf(ranking)],
  best: (ranking) => ranking[0],
  worst: (ranking) => ranking.at(-1),
};

function goTo(row) {
  row.open = true;
  current = row;
  row.querySelector("summary").focus({ preventScroll: true });
  row.scrollIntoView({ block: "start" });
}

function showJumps() {
  const ranking = ranked();
  Object.entries(JUMPS).forEach(([id, choose]) => {
    const row = choose(ranking);
    byId(id).disabled = !row;
    byId(id).querySelector("b").textContent = row ? `${row.querySelector(".badge b").textContent} dB` : "";
  });
}

Object.entries(JUMPS).forEach(([id, choose]) => {
  byId(id).addEventListener("click", () => goTo(choose(ranked())));
});

const unfold = byId("unfold");
let unfolded = false;
unfold.addEventListener("click", () => {
  unfolded = !unfolded;
  unfold.textContent = unfolded ? "Fold all" : "Unfold all";
  rows.forEach((row) => { row.open = unfolded; });
});

rows.forEach((row) => row.addEventListener("toggle", () => {
  if (!row.open) row.querySelectorAll("audio, video").forEach((media) => media.pause());
}));

const rowOfAddress = () => rows.find((row) => `#${row.id}` === location.hash);

window.addEventListener("hashchange", () => {
  const row = rowOfAddress();
  if (row) goTo(row);
});

// ---- the explanation: open until it has been closed once

const HELP_CLOSED = "sound-of-pixels-help-closed";
const help = byId("help");

function isHelpClosed() {
  try {
    return localStorage.getItem(HELP_CLOSED) !== null;
  } catch {
    return false; // the browser refuses storage
  }
}

function keepHelpClosed() {
  try {
    localStorage.setItem(HELP_CLOSED, "1");
  } catch {
    // the browser refuses storage: it opens again next time
  }
}

help.open = !isHelpClosed();
help.addEventListener("toggle", () => { if (!help.open) keepHelpClosed(); });

// ---- keyboard

["focusin", "click"].forEach((type) => { // Safari does not focus a button that is clicked
  rowsBox.addEventListener(type, (event) => { current = event.target.closest(".row"); });
});

function goToRow(step) {
  const visible = [...rowsBox.querySelectorAll(".row:not([hidden])")];
  const at = visible.indexOf(current);
  const next = at < 0 ? visible[0] : visible[Math.min(Math.max(at + step, 0), visible.length - 1)];
  if (next) goTo(next);
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
  const inRow = current !== null && current.open && isShown(current);
  if (key === "j") goToRow(1);
  else if (key === "k") goToRow(-1);
  else if (key === "d") toggleTheme();
  else if (key === "Escape") silence();
  else if (inRow && key === "ArrowRight") goToSound(1);
  else if (inRow && key === "ArrowLeft") goToSound(-1);
  else if (inRow && /^[1-9]$/.test(key)) playPredicted(Number(key));
  else if (inRow && key === " " && !target.closest("button, a, summary:not(.row > summary)")) playCurrent();
  else return;
  event.preventDefault(); // no scrolling
}

document.addEventListener("keydown", onKey);

// ---- start

filterRows(); // browsers may restore the choices of an earlier visit
const first = rowOfAddress();
if (first) goTo(first);
else if (rows.length) rowsBox.querySelector(".row:not([hidden])").open = true;
