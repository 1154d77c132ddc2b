"use strict";
const at = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").className = bad ? "bad" : "";
}

// Class names are inserted as text, never as HTML.
function element(kind, text = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function show(found, file) {
  const [best] = found.classes;
  // Where an image can have several classes, all are named, and there may be none.
  at("best").textContent = found.threshold === undefined
    ? `${best.class}, ${percent(best.score)}`
    : found.classes.map((each) => each.class).join(", ")
      || `no class reaches ${percent(found.threshold)}`;
  at("classes").replaceChildren(...found.classes.map((each) => {
    const line = document.createElement("li");
    const bar = document.createElement("progress");
    bar.value = each.score;
    line.append(element("span", each.class), element("span", percent(each.score)), bar);
    return line;
  }));
  URL.revokeObjectURL(at("image").src);
  at("image").src = URL.createObjectURL(file);
  at("name").textContent = at("name").title = file.name || "your image";
  at("where").hidden = !found.explanation;
  if (found.explanation) at("cam").src = found.explanation;
  at("found").hidden = false;
  document.body.classList.add("used");
}

async function ask(file) {
  let answer;
  try {
    answer = await fetch("predict?explain=true", { method: "POST", body: file });
  } catch {
    throw new Error("the server does not respond, or it refused a file of this size");
  }
  // A proxy in between may answer with a page of its own.
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.detail || `the server answered with status ${answer.status}`);
  return found;
}

let newest = 0;
async function look(file) {
  if (!file) return;
  const mine = ++newest;
  say(`classifying ${file.name || "the image"} ...`);
  try {
    const found = await ask(file);
    if (mine !== newest) return;
    show(found, file);
    say("");
  } catch (error) {
    if (mine !== newest) return;
    at("found").hidden = true;
    say(error.message, true);
  }
}

at("file").addEventListener("change", (event) => {
  look(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
// Anywhere: a browser would leave the page for an image that is dropped beside the field.
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  look(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => look(event.clipboardData.files[0]));
fetch("health").then((answer) => answer.json()).then((found) => {
  at("network").textContent = `${found.network}, ${found.classes.toLocaleString("en")} classes`;
}).catch(() => say("the server does not respond", true));
