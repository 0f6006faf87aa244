"use strict";

const byId = (id) => document.getElementById(id);
const page = JSON.parse(byId("data").textContent);
const video = byId("video");
const gains = new Float32Array(unpack(page.gains).buffer); // [height, width, numBasis]
const energy = unpack(page.energy); // [times, height, width], amplitude
const colours = unpack(page.colours); // [height, width, 3]

function unpack(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// ---- chunks: some seconds of all streams, in scripts, because pages from file:// cannot use fetch()

const HALF_FADE = page.fadeSeconds / 2;
const MP3_DELAY = 1105; // samples, encoder delay that remains if a decoder ignores the first frame's note of it
const MP3_BLOCK = 576; // samples; such decoders return whole blocks
const decoder = new OfflineAudioContext(1, 1, page.rate);
const chunks = new Map(); // index -> {ready: promise of buffers, buffers: an AudioBuffer or null per stream}
const arrivals = new Map(); // index -> {promise, resolve}

const chunkAt = (time) => clamp(Math.floor(time / page.chunkSeconds), 0, page.numChunks - 1);
const chunkStart = (index) => (index ? index * page.chunkSeconds - HALF_FADE : 0); // s

window.chunk = (index, length, sounds) => arrivals.get(index).resolve({ length, sounds }); // called by the scripts

function fetchChunk(index) {
  if (!arrivals.has(index)) {
    const arrival = {};
    arrival.promise = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `sound/${String(index).padStart(4, "0")}.js`;
      script.onload = script.onerror = () => {
        arrivals.delete(index);
        script.remove();
        reject(new Error(`${script.src} cannot be loaded`)); // no effect after resolve
      };
      arrival.resolve = resolve;
      document.head.append(script);
    });
    arrivals.set(index, arrival);
  }
  return arrivals.get(index).promise;
}

async function loadChunk(index) {
  const { length, sounds } = await fetchChunk(index);
  return Promise.all(sounds.map((sound) => sound && decode(index, length, ...sound)));
}

async function decode(index, length, scale, mp3) {
  const decoded = (await decoder.decodeAudioData(unpack(mp3).buffer)).getChannelData(0);
  const overlooked = decoded.length > length && decoded.length % MP3_BLOCK === 0;
  const delay = overlooked ? MP3_DELAY : 0;
  const buffer = new AudioBuffer({ length, sampleRate: page.rate });
  const wav = buffer.getChannelData(0);
  wav.set(decoded.subarray(delay, delay + length));
  const fade = page.fadeSeconds * page.rate;
  for (let i = 0; i < length; i++) wav[i] *= scale;
  for (let i = 0; i < fade && index > 0; i++) wav[i] *= (i + 0.5) / fade;
  for (let i = 1; i <= fade && index < page.numChunks - 1; i++) wav[length - i] *= (i - 0.5) / fade;
  return buffer;
}

function keepChunks(time) { // load what plays at `time` and what comes next; drop the rest
  const [first, now] = [chunkAt(time - HALF_FADE), chunkAt(time)];
  const last = Math.min(now + (chunks.get(now)?.buffers ? 1 : 0), page.numChunks - 1);
  for (const index of chunks.keys()) if (index < first || index > now + 1) chunks.delete(index);
  for (let index = first; index <= last; index++) if (!chunks.has(index)) keepChunk(index);
}

function keepChunk(index) {
  const entry = { ready: loadChunk(index), buffers: null };
  chunks.set(index, entry);
  entry.ready.then((buffers) => {
    entry.buffers = buffers;
    follow();
    drawSoon();
  }).catch((error) => { byId("status").textContent = error.message; });
}

// ---- audio graph: all streams play at once, and a place is a set of gains

const GLIDE = 0.015; // s, time constant of gain changes
const EDGE = 0.008; // s, time constant of fades at a run's start and end
const LEAD = Math.round(0.03 * page.rate) / page.rate; // s ahead, so that all streams start at the same sample

class Run { // an uninterrupted stretch of playback
  constructor(context, output, levels) {
    this.context = context;
    this.fader = new GainNode(context);
    this.fader.connect(output);
    this.gains = levels.map((gain) => new GainNode(context, { gain }));
    this.gains.forEach((node) => node.connect(this.fader));
    this.added = new Set();
    this.nodes = [];
  }

  begin(time, rate, lead) { // the video is at `time` now; the sound starts in `lead` s
    Object.assign(this, { time, rate, lead, at: this.context.currentTime });
    if (lead) {
      this.fader.gain.value = 0;
      this.fader.gain.setTargetAtTime(1, this.at + lead, EDGE);
    }
    return this;
  }

  position() {
    return this.time + (this.context.currentTime - this.at) * this.rate;
  }

  add(index, buffers) {
    this.added.add(index);
    const onSample = (time) => Math.round(time * page.rate) / page.rate;
    const start = onSample(this.at + (chunkStart(index) - this.time) / this.rate);
    const when = Math.max(start, this.context.currentTime + this.lead);
    const skip = onSample((when - start) * this.rate);
    buffers.forEach((buffer, stream) => {
      if (!buffer || skip >= buffer.duration) return;
      const node = new AudioBufferSourceNode(this.context, { buffer, playbackRate: this.rate });
      node.connect(this.gains[stream]);
      node.start(when, skip);
      node.onended = () => node.disconnect();
      this.nodes.push(node);
    });
  }

  glide(levels) {
    const now = this.context.currentTime;
    this.gains.forEach((node, stream) => node.gain.setTargetAtTime(levels[stream], now, GLIDE));
  }

  stop(lead) { // in `lead` s
    const when = this.context.currentTime + lead;
    this.fader.gain.setTargetAtTime(0, when, EDGE);
    this.nodes.forEach((node) => node.stop(when + 8 * EDGE));
    setTimeout(() => this.fader.disconnect(), 1000 * (lead + 16 * EDGE));
  }
}

async function render(from, to) { // samples of the current choice, `from` to `to` in s
  const context = new OfflineAudioContext(1, Math.round((to - from) * page.rate), page.rate);
  const offline = new Run(context, context.destination, levels()).begin(from, 1, 0);
  for (let index = chunkAt(from - HALF_FADE); index <= chunkAt(to + HALF_FADE); index++) {
    offline.add(index, await (chunks.get(index)?.ready ?? loadChunk(index)));
  }
  return (await context.startRendering()).getChannelData(0);
}
