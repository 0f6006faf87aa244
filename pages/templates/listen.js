"use strict";

// ---- sound in sync with the video

const MAX_DRIFT = 0.06; // s
const START_DRIFT = 0.02; // s; the video starts slightly after its event, which is corrected once
const SETTLED = 0.2; // s after which the video plays evenly
const CHECK_EVERY = 250; // ms
let [context, master, run] = [null, null, null];

function wake() { // on the first user gesture: browsers block sound before it
  if (!context) {
    context = new AudioContext({ sampleRate: page.rate });
    master = new GainNode(context, { gain: volumeOf(byId("volume")) });
    master.connect(context.destination);
    context.onstatechange = follow;
  }
  if (context.state !== "running") context.resume();
}

const latency = () => Math.min(context.outputLatency || context.baseLatency || 0, 0.5); // s, from the audio graph to the ear
const volumeOf = (slider) => (slider.value / 100) ** 2; // roughly even steps of loudness

function follow() { // start, stop, extend or realign the sound
  if (!video.seeking) keepChunks(video.currentTime);
  const moving = !video.paused && !video.seeking && !video.ended && video.readyState > 2;
  if (moving && context?.state === "running") {
    align();
    chunks.forEach(({ buffers }, index) => { if (buffers && !run.added.has(index)) run.add(index, buffers); });
  } else {
    run?.stop(0);
    run = null;
  }
}

function align() { // ensure a run in sync with the video
  const rate = video.playbackRate;
  const time = video.currentTime + latency() * rate;
  const settling = run?.first && run.position() - run.time > SETTLED * rate;
  const drift = run && Math.abs(run.position() - time);
  if (run && run.rate === rate && drift <= (settling ? START_DRIFT : MAX_DRIFT)) return;
  run?.stop(LEAD);
  const first = run === null;
  run = new Run(context, master, levels()).begin(time, rate, LEAD);
  run.first = first;
}

"play playing pause seeking seeked waiting ended ratechange".split(" ").forEach((name) => {
  video.addEventListener(name, () => {
    follow();
    showTime();
    byId("play").setAttribute("aria-pressed", String(!video.paused));
  });
});
setInterval(follow, CHECK_EVERY);
"pointerdown pointerup keydown".split(" ").forEach((name) => document.addEventListener(name, wake, true));

function play() {
  // Another click may interrupt play(): not an error.
  if (video.paused) video.play().catch((error) => { if (error.name !== "AbortError") throw error; });
}

function playOrPause() {
  if (video.paused) play();
  else video.pause();
}

function seek(time) {
  video.currentTime = clamp(time, 0, page.seconds);
}

// ---- what is heard: a place, the mixer's sources, or the original

const strips = [...byId("mixer").children];
const hearButtons = [...document.querySelectorAll(".hear")]; // of the sources, as in the mixer
const isPressed = (button) => button.getAttribute("aria-pressed") === "true";
const soloed = (strip) => isPressed(strip.querySelector(".solo"));
const choice = { mode: "original", row: Math.floor(page.height / 2), column: Math.floor(page.width / 2) };

function levels(mode = choice.mode) { // the gain of each stream
  const first = page.numBasis * (choice.row * page.width + choice.column);
  const basis = [...gains.subarray(first, first + page.numBasis)].map((gain) => (mode === "place" ? gain : 0));
  const anySolo = strips.some(soloed);
  const others = { place: () => 0, original: () => 1, sources: (strip) => levelOf(strip, anySolo) }[mode];
  return [...basis, ...strips.map(others)];
}

function levelOf(strip, anySolo) {
  const silent = isPressed(strip.querySelector(".mute")) || (anySolo && !soloed(strip));
  return silent ? 0 : volumeOf(strip.querySelector("input"));
}

function describe() {
  if (choice.mode === "place") return `place column ${choice.column + 1}, row ${choice.row + 1}`;
  if (choice.mode === "original") return "original";
  const now = levels().slice(page.numBasis);
  const heard = strips.filter((strip, index) => now[index] > 0).map((strip) => strip.dataset.name);
  return heard.length === strips.length ? "all sources" : heard.join(", ") || "silence";
}

function choose(change) {
  Object.assign(choice, change);
  run?.glide(levels());
  document.querySelector(`#modes [value=${choice.mode}]`).checked = true;
  byId("status").textContent = byId("heard-name").textContent = describe();
  const cell = byId("cell").style;
  cell.left = `${(100 * choice.column) / page.width}%`;
  cell.top = `${(100 * choice.row) / page.height}%`;
  document.body.dataset.mode = choice.mode;
  strips.forEach((strip, index) => {
    const shown = choice.mode === "sources" && soloed(strip);
    byId("regions").children[index]?.classList.toggle("shown", shown);
  });
  hearButtons.forEach((button, index) => button.setAttribute("aria-pressed", String(isAlone(index))));
  drawSoon();
}

function choosePlace(row, column) {
  byId("hint").hidden = true;
  choose({ mode: "place", row: clamp(row, 0, page.height - 1), column: clamp(column, 0, page.width - 1) });
  play();
}

function choosePoint(event) {
  const box = byId("stage").getBoundingClientRect();
  choosePlace(
    Math.floor(((event.clientY - box.top) / box.height) * page.height),
    Math.floor(((event.clientX - box.left) / box.width) * page.width),
  );
}

const stage = byId("stage");
stage.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  stage.setPointerCapture(event.pointerId);
  choosePoint(event);
});
stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) choosePoint(event); });

const isAlone = (index) => choice.mode === "sources" && strips.every((strip, k) => soloed(strip) === (k === index));

function hearAlone(index) { // once more: the original again
  const mode = isAlone(index) ? "original" : "sources";
  strips.forEach((strip, k) => {
    strip.querySelector(".solo").setAttribute("aria-pressed", String(mode === "sources" && k === index));
  });
  strips[index].querySelector(".mute").setAttribute("aria-pressed", "false");
  choose({ mode });
  play();
}

function press(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
  choose({ mode: "sources" });
}

strips.forEach((strip, index) => {
  strip.querySelectorAll("button").forEach((button) => {
    button.addEventListener("click", () => press(button, !isPressed(button)));
  });
  strip.querySelector("input").addEventListener("input", () => choose({ mode: "sources" }));
  const show = (shown) => byId("regions").children[index]?.classList.toggle("hinted", shown);
  strip.addEventListener("pointerenter", () => show(true));
  strip.addEventListener("pointerleave", () => show(false));
});
hearButtons.forEach((button, index) => button.addEventListener("click", () => hearAlone(index)));
byId("outlines").addEventListener("click", ({ currentTarget }) => {
  currentTarget.setAttribute("aria-pressed", String(!isPressed(currentTarget)));
  stage.classList.toggle("bare", !isPressed(currentTarget));
});
byId("modes").addEventListener("change", (event) => choose({ mode: event.target.value }));
byId("volume").addEventListener("input", (event) => { if (master) master.gain.value = volumeOf(event.target); });
byId("play").addEventListener("click", playOrPause);
byId("seek").addEventListener("input", (event) => seek(Number(event.target.value)));

// ---- overlays: cells as a smooth image over the video

const FINE = Math.max(1, Math.round(128 / page.width)); // overlay pixels per cell, in each direction
const overlay = byId("overlay");
[overlay.width, overlay.height] = [page.width * FINE, page.height * FINE];
const pen = overlay.getContext("2d");
const image = pen.createImageData(overlay.width, overlay.height);
const numCells = page.width * page.height;
const chosenOverlay = () => document.querySelector("#overlays :checked").value;

function spline(count) { // per overlay pixel: four [cell, weight] of a cubic B-spline, smoother than linear
  return Array.from({ length: count * FINE }, (_, pixel) => {
    const at = (pixel + 0.5) / FINE - 0.5;
    const part = at - Math.floor(at);
    const rest = 1 - part;
    const weights = [rest ** 3, 4 - 6 * part ** 2 + 3 * part ** 3, 4 - 6 * rest ** 2 + 3 * rest ** 3, part ** 3];
    return weights.map((weight, k) => [clamp(Math.floor(at) - 1 + k, 0, count - 1), weight / 6]);
  });
}

const [splineX, splineY] = [spline(page.width), spline(page.height)];

function paint(valueOf, put) { // smooth valueOf(cell), then put(value, index of the pixel)
  let pixel = 0;
  const line = new Float32Array(page.width);
  const cells = Float32Array.from({ length: numCells }, (_, cell) => valueOf(cell));
  for (const rows of splineY) {
    line.fill(0);
    for (const [row, weight] of rows) {
      for (let x = 0; x < page.width; x++) line[x] += weight * cells[row * page.width + x];
    }
    for (const [a, b, c, d] of splineX) {
      put(a[1] * line[a[0]] + b[1] * line[b[0]] + c[1] * line[c[0]] + d[1] * line[d[0]], pixel++);
    }
  }
}

const palette = (list) => list.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const shade = (shades, share) => shades[Math.round(clamp(share, 0, 1) * (shades.length - 1))];
const energyColours = palette(page.energyColours);
const PAINT_EVERY = 0.08; // s
let paintedTime = -1; // s, of the painted energy

function paintEnergy() {
  paintedTime = video.currentTime;
  const next = page.times.findIndex((time) => time > video.currentTime);
  const last = next < 0 ? page.times.length - 1 : next;
  const first = next < 0 ? last : Math.max(next - 1, 0);
  const part = first < last ? (video.currentTime - page.times[first]) / (page.times[last] - page.times[first]) : 0;
  const amplitude = (cell) => energy[first * numCells + cell] * (1 - part) + energy[last * numCells + cell] * part;
  paint(amplitude, (value, pixel) => {
    image.data.set(shade(energyColours, value / 255), 4 * pixel);
    image.data[4 * pixel + 3] = page.energyAlpha * value;
  });
  pen.putImageData(image, 0, 0);
}

function paintColours() {
  for (let k = 0; k < 3; k++) {
    paint((cell) => colours[3 * cell + k], (value, pixel) => { image.data[4 * pixel + k] = value; });
  }
  for (let at = 3; at < image.data.length; at += 4) image.data[at] = 255;
  pen.putImageData(image, 0, 0);
}

function showOverlay() {
  overlay.hidden = chosenOverlay() === "none";
  overlay.style.opacity = byId("opacity").value / 100;
  document.querySelectorAll(".meaning").forEach((each) => { each.hidden = each.dataset.overlay !== chosenOverlay(); });
  if (chosenOverlay() === "energy") paintEnergy();
  if (chosenOverlay() === "embeddings") paintColours();
}

function nextOverlay() {
  const inputs = [...byId("overlays").querySelectorAll("input")];
  inputs[(inputs.findIndex((input) => input.checked) + 1) % inputs.length].checked = true;
  showOverlay();
}

byId("overlays").addEventListener("change", showOverlay);
byId("opacity").addEventListener("input", showOverlay);

// ---- spectrograms of the current chunk: the mixture, and what is heard

const COLUMNS = 400;
const WINDOW = page.rate > 30000 ? 2048 : 1024; // samples
const SLICE = 25; // columns drawn at a time
const DRAW_DELAY = 100; // ms; not at every step of a drag
const hann = Float32Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
const soundColours = palette(page.soundColours);
const numRows = page.edges.length - 1;
const rowBins = page.edges.map((edge) => clamp((edge * WINDOW) / page.rate, 0, WINDOW / 2 - 1));
let drawTimer = null;
let drawing = 0; // number of the latest drawing
let drawingChunk = -1; // its chunk
let drawnChunk = -1; // of the latest complete one

function transform(re, im) { // FFT in place, radix 2
  const size = re.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
  }
  for (let half = 1; half < size; half *= 2) {
    for (let k = 0; k < half; k++) {
      const [c, s] = [Math.cos((Math.PI * k) / half), -Math.sin((Math.PI * k) / half)];
      for (let i = k; i < size; i += 2 * half) {
        const j = i + half;
        const [x, y] = [re[j] * c - im[j] * s, re[j] * s + im[j] * c];
        re[j] = re[i] - x;
        im[j] = im[i] - y;
        re[i] += x;
        im[i] += y;
      }
    }
  }
}

function addWindow(into, buffers, gainList, from) { // mix one window of all streams
  buffers.forEach((buffer, stream) => {
    const gain = buffer ? gainList[stream] : 0;
    if (!gain) return;
    const wav = buffer.getChannelData(0);
    const end = Math.min(WINDOW, wav.length - from);
    for (let i = Math.max(0, -from); i < end; i++) into[i] += gain * hann[i] * wav[from + i];
  });
}

function addColumn([mixture, heard], column, buffers, index) { // to powers, each [COLUMNS * numRows]
  const [re, im] = [new Float32Array(WINDOW), new Float32Array(WINDOW)];
  const start = index * page.chunkSeconds - chunkStart(index);
  const middle = start + ((column + 0.5) / COLUMNS) * chunkSpan(index);
  const from = Math.round(middle * page.rate) - WINDOW / 2;
  addWindow(re, buffers, levels("original"), from);
  addWindow(im, buffers, levels(), from);
  transform(re, im); // two real transforms in one
  for (let row = 0; row < numRows; row++) { // the mean between a row's edges, or the nearest bin
    const first = Math.round(rowBins[row]);
    const last = Math.max(first + 1, Math.round(rowBins[row + 1]));
    const at = column * numRows + row;
    for (let bin = first; bin < last; bin++) {
      const mirror = (WINDOW - bin) % WINDOW;
      mixture[at] += ((re[bin] + re[mirror]) ** 2 + (im[bin] - im[mirror]) ** 2) / (last - first);
      heard[at] += ((re[bin] - re[mirror]) ** 2 + (im[bin] + im[mirror]) ** 2) / (last - first);
    }
  }
}

function drawPower(canvas, power, peak) {
  [canvas.width, canvas.height] = [COLUMNS, numRows];
  const pixels = new ImageData(COLUMNS, numRows);
  for (let at = 0; at < power.length; at++) {
    const decibels = 10 * Math.log10(power[at] / peak + 1e-12);
    const [column, row] = [Math.floor(at / numRows), at % numRows];
    const pixel = 4 * ((numRows - 1 - row) * COLUMNS + column);
    pixels.data.set([...shade(soundColours, 1 - decibels / page.floor), 255], pixel);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

async function drawSpectrograms() { // in slices, to stay responsive; restarts if the choice changes
  const index = drawingChunk = chunkAt(video.currentTime);
  const buffers = chunks.get(index)?.buffers;
  if (!buffers) return; // drawn once they are loaded
  const current = ++drawing;
  const both = [new Float32Array(COLUMNS * numRows), new Float32Array(COLUMNS * numRows)];
  for (let column = 0; column < COLUMNS; column++) {
    if (column % SLICE === 0) await new Promise((resolve) => { setTimeout(resolve, 0); });
    if (current !== drawing) return;
    addColumn(both, column, buffers, index);
  }
  const peak = both[0].reduce((one, other) => Math.max(one, other), 1e-12);
  drawPower(byId("mixture"), both[0], peak);
  drawPower(byId("heard"), both[1], peak);
  drawTicks(index);
  drawnChunk = index;
}

function drawSoon() {
  drawTimer ??= setTimeout(() => {
    drawTimer = null;
    drawSpectrograms();
  }, DRAW_DELAY);
}

function drawTicks(index) {
  const step = [0.5, 1, 2, 5].find((seconds) => chunkSpan(index) / seconds <= 5) ?? 10;
  const ticks = [];
  for (let time = 0; time < 0.97 * chunkSpan(index); time += step) {
    const tick = document.createElement("span");
    tick.textContent = minutes(index * page.chunkSeconds + time) + (step < 1 ? `.${(10 * time) % 10}` : "");
    tick.style.left = `${(100 * time) / chunkSpan(index)}%`;
    ticks.push(tick);
  }
  document.querySelectorAll("#spectrograms .axis-x").forEach((axis) => {
    axis.replaceChildren(...ticks.map((tick) => tick.cloneNode(true)));
  });
}

document.querySelectorAll("#spectrograms .area").forEach((area) => area.addEventListener("click", (event) => {
  const box = area.getBoundingClientRect();
  const index = chunkAt(video.currentTime);
  seek(index * page.chunkSeconds + ((event.clientX - box.left) / box.width) * chunkSpan(index));
}));

// ---- time

const minutes = (time) => `${Math.floor(time / 60)}:${String(Math.floor(time % 60)).padStart(2, "0")}`;
const chunkSpan = (index) => Math.min(page.chunkSeconds, page.seconds - index * page.chunkSeconds); // s

function showTime() {
  const time = video.currentTime;
  const index = chunkAt(time);
  byId("clock").textContent = `${minutes(time)} / ${minutes(page.seconds)}`;
  byId("seek").value = time;
  byId("seek").setAttribute("aria-valuetext", minutes(time));
  byId("spectrograms").style.setProperty("--at", (time - index * page.chunkSeconds) / chunkSpan(index));
  if (index !== drawingChunk) drawSoon();
  if (chosenOverlay() === "energy" && Math.abs(time - paintedTime) > PAINT_EVERY) paintEnergy();
}

function tick() {
  if (!video.paused) showTime();
  requestAnimationFrame(tick);
}

// ---- keyboard

const move = (down, right) => choosePlace(choice.row + down, choice.column + right);
const KEYS = {
  ArrowUp: () => move(-1, 0),
  ArrowDown: () => move(1, 0),
  ArrowLeft: () => move(0, -1),
  ArrowRight: () => move(0, 1),
  " ": playOrPause,
  j: () => seek(video.currentTime - 5),
  l: () => seek(video.currentTime + 5),
  p: () => choose({ mode: "place" }),
  s: () => choose({ mode: "sources" }),
  o: () => choose({ mode: "original" }),
  e: nextOverlay,
  d: toggleTheme,
};

function onKey(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key.startsWith("Arrow") && target.closest("input")) return; // sliders and radio buttons use them
  if (/^[1-9]$/.test(key)) strips[key - 1]?.querySelector(".solo").click();
  else if (!KEYS[key]) return;
  else if (key !== " " || !event.repeat) KEYS[key](); // holding Space is one press
  event.preventDefault(); // no scrolling
}

document.addEventListener("keydown", onKey);
// Some browsers press the focused button when Space is released.
document.addEventListener("keyup", (event) => { if (event.key === " ") event.preventDefault(); });

// ---- start

byId("seek").max = page.seconds;
showOverlay();
choose({});
showTime();
keepChunks(0);
tick();

function state() {
  const sound = run && { time: run.position(), latency: latency() };
  return { ...choice, context: context?.state, sound, picture: video.currentTime, chunks: [...chunks.keys()] };
}

window.listen = { render, levels, state }; // for tests
