// Sends videos one after another, and shows what the server says about all of its jobs.

const POLL_BUSY = 400; // ms between questions while something is going on
const POLL_IDLE = 3000;

const byId = (id) => document.getElementById(id);
const maxMegabytes = Number(byId("drop").dataset.maxMb);
const rows = new Map(); // job id -> list item
let sending = Promise.resolve(); // the upload in progress and those after it
let numSending = 0;
let opening = null; // the job whose page opens when it is done: of a single video, while the user waits

function makeRow(name) {
  const row = byId("row").content.firstElementChild.cloneNode(true);
  row.querySelector("strong").textContent = name;
  byId("jobs").prepend(row);
  return row;
}

// share: 0..1 of the work that is done, null: unknown, undefined: nothing is going on
function showRow(row, state, text, share) {
  row.className = `card job ${state}`;
  const line = row.querySelector(".text");
  if (line.textContent !== text) line.textContent = text;
  const bar = row.querySelector("progress");
  bar.hidden = share === undefined;
  if (share === null) bar.removeAttribute("value");
  else bar.value = share ?? 0;
}

// ---- upload

function chosen(files) {
  opening = null;
  const single = files.length === 1 && numSending === 0;
  for (const file of files) {
    const row = makeRow(file.name);
    if (file.size > maxMegabytes * 1e6) {
      const size = Math.ceil(file.size / 1e6);
      showRow(row, "failed", `${size} MB, more than the ${maxMegabytes} MB that this server takes (--max_mb)`);
      continue;
    }
    showRow(row, "waiting", "waiting to be sent", null);
    numSending += 1;
    sending = sending.then(() => send(file, row, single)).finally(() => { numSending -= 1; });
  }
}

function send(file, row, single) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch() does not tell how much was sent
    request.open("POST", `jobs?name=${encodeURIComponent(file.name)}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => {
      const share = event.loaded / event.total;
      showRow(row, "sending", `sending: ${Math.round(100 * share)} %`, share);
    };
    request.onload = () => {
      const answer = request.response ?? {};
      if (request.status === 201) {
        rows.set(answer.id, row);
        if (single) opening = answer.id;
        showJob(answer, 0);
      } else showRow(row, "failed", answer.error ?? `the server answers ${request.status}`);
    };
    request.onerror = () => showRow(row, "failed", "cannot be sent: the file cannot be read, or the server has stopped");
    request.onloadend = resolve;
    request.send(file);
  });
}

byId("pick").addEventListener("change", (event) => {
  chosen([...event.target.files]);
  event.target.value = ""; // the same file may be chosen again
});

// The whole page takes what is dropped: next to the frame, the browser would open the file.
addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) byId("drop").classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  chosen([...event.dataTransfer.files]);
});

// ---- jobs

function showJob(job, numBefore) {
  if (!rows.has(job.id)) rows.set(job.id, makeRow(job.name));
  const row = rows.get(job.id);
  if (job.state === "waiting") {
    showRow(row, job.state, numBefore ? `waiting for ${numBefore} before it` : "waiting", null);
  } else if (job.state === "working" && job.done < job.total) {
    showRow(row, job.state, `${job.step}: ${job.done} of ${job.total} windows`, job.done / job.total);
  } else if (job.state === "working") {
    showRow(row, job.state, job.total ? `${job.step}: finishing` : "reading the video", null);
  } else showRow(row, job.state, job.text);
  if (job.state === "done") showLinks(row.querySelector(".links"), job);
}

function showLinks(links, job) {
  if (!links.hidden) return;
  links.hidden = false;
  const folder = `results/${job.id}/`;
  links.append(makeLink("Listen", folder, "page"));
  for (const name of job.files) {
    const link = makeLink(name, folder + encodeURIComponent(name));
    link.download = name;
    links.append(link);
  }
}

function makeLink(text, href, className = "") {
  return Object.assign(document.createElement("a"), { textContent: text, href, className });
}

async function poll() {
  let busy = numSending > 0;
  try {
    const jobs = await (await fetch("jobs", { cache: "no-store" })).json();
    let numBefore = 0;
    for (const job of jobs) {
      showJob(job, numBefore);
      if (job.state === "waiting" || job.state === "working") numBefore += 1;
    }
    busy ||= numBefore > 0;
    byId("silence").hidden = true;
    openPage(jobs);
  } catch {
    byId("silence").hidden = false;
  }
  setTimeout(poll, busy ? POLL_BUSY : POLL_IDLE);
}

function openPage(jobs) {
  const job = jobs.find((each) => each.id === opening && each.state === "done");
  if (!job) return;
  opening = null;
  location.assign(`results/${job.id}/`);
}

poll();
