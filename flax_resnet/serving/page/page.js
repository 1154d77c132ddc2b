"use strict";
const at = (id) => document.getElementById(id);

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").className = bad ? "bad" : "";
}

function show(found) {
  at("where").hidden = !found.explanation;
  if (found.explanation) at("cam").src = found.explanation;
  // Class names are inserted as text, never as HTML.
  at("classes").replaceChildren(...found.classes.map((each) => {
    const line = document.createElement("li");
    const bar = document.createElement("meter");
    bar.value = each.score;
    line.append(`${(100 * each.score).toFixed(1)} %  ${each.class}`, bar);
    return line;
  }));
  at("found").hidden = false;
}

let newest = 0;
async function look(file) {
  if (!file) return;
  const mine = ++newest;
  at("found").hidden = true;
  say("classifying ...");
  try {
    const answer = await fetch("predict?top=5&explain=true", { method: "POST", body: file });
    const found = await answer.json();
    if (mine !== newest) return;
    if (!answer.ok) throw new Error(found.detail);
    URL.revokeObjectURL(at("image").src);
    at("image").src = URL.createObjectURL(file);
    show(found);
    say("");
  } catch (error) {
    if (mine === newest) say(error.message || "the server does not respond", true);
  }
}

at("file").addEventListener("change", (event) => look(event.target.files[0]));
for (const name of ["dragenter", "dragover"]) {
  at("drop").addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  at("drop").addEventListener(name, () => at("drop").classList.remove("over"));
}
at("drop").addEventListener("drop", (event) => { event.preventDefault(); look(event.dataTransfer.files[0]); });
fetch("health").then((answer) => answer.json()).then((found) => { at("network").textContent = found.network; });
