"use strict";
// Connects the page with a server: it sends the steps so far and the next action, and shows the
// answer. The rest is the page of a file, with its `show`, `keys`, `element`, `words` and `current`.
// Every text becomes a text node, never markup.
(() => {
  let steps = [], trace = "", name = "trace", asking = false;
  const live = $("live"), note = element("output", "", { id: "live-note" }), choices = element("div", undefined, { id: "choices" }), laws = element("div", undefined, { id: "laws" });

  async function ask(path, then) {
    if (asking) return;
    asking = true;
    live.classList.add("busy");
    try {
      const answer = await fetch("step", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ steps: path, then }) });
      if (!answer.ok) throw new Error(await answer.text());
      shown(await answer.json());
    } catch (error) {
      say(String(error.message || error), true);
    } finally {
      asking = false;
      live.classList.remove("busy");
    }
  }
  function say(text, wrong = false) {
    note.textContent = text;
    note.className = wrong ? "wrong" : "";
  }
  function shown(told) {
    ({ steps, trace, name } = told);
    show(told.document, steps.length);
    say(told.note || (told.done ? "The job has ended: only its leftovers can still act." : told.stuck ? "Only a fault can happen now, and the job has not ended." : `${told.choices.length} steps are possible.`), told.stuck);
    choices.replaceChildren(...told.choices.map((choice, place) => {
      const [first, ...rest] = choice.text.split("; ");
      const button = element("button", undefined, { class: [choice.fault ? "fault" : "", choice.breaks.length ? "breaks" : ""].join(" ").trim() });
      if (place < 9) button.append(element("kbd", place + 1));
      button.append(element("b", choice.actor), ` ${first}`);
      if (rest.length) button.append(element("small", rest.join("; ")));
      if (choice.breaks.length) button.append(element("small", `breaks ${choice.breaks.map(words).join(", ")}`, { class: "fault" }));
      button.addEventListener("click", () => choose(place));
      return button;
    }));
    choices.actions = told.choices.map((choice) => choice.action);
    const broken = told.laws.filter((law) => law.broken);
    laws.replaceChildren(...[...broken, ...told.laws.filter((law) => !law.broken)].map((law) => {
      const text = law.broken ? `L${law.number} ${words(law.name)}: ${law.says}` : `L${law.number} ${words(law.name)}`;
      return element("span", text, { class: law.broken ? "broken" : law.name === "progress" ? "open" : "", title: law.broken ? "broken here" : law.name === "progress" ? "one state does not decide it: search from here" : "holds here" });
    }));
    try { sessionStorage.setItem(`snapline ${location.pathname}`, JSON.stringify(steps)); } catch { /* Then a reload begins anew. */ }
  }
  const choose = (place) => { const action = choices.actions && choices.actions[place]; if (action !== undefined) ask([...steps, action], "look"); };
  const undo = () => ask(steps.slice(0, -1), "look");
  const backHere = () => ask(steps.slice(0, current), "look");
  const hunt = () => { say("Searching from here…"); ask(steps, "hunt"); };
  const wander = () => ask(steps, { wander: { seed: crypto.getRandomValues(new Uint32Array(1))[0], steps: 20 } });
  const restart = () => ask([], "look");
  function save() {
    const link = element("a", undefined, { href: URL.createObjectURL(new Blob([trace], { type: "application/json" })), download: `${name.replace(/[^\w-]/g, "_")}-${steps.length}.json` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    say(`Saved; snapline trace replay ${link.download} prints its story.`);
  }

  const does = element("div", undefined, { class: "does" });
  for (const [text, key, act, what] of [
    ["undo", "Backspace", undo, "one step back"], ["back to the step shown", "b", backHere, "drop the steps after the one selected below"],
    ["to the next violation", "x", hunt, "search from here, along a shortest path"], ["20 random steps", "w", wander, "a random walk; it ends where a law breaks"],
    ["start over", "r", restart, "to the first state"], ["save the trace", "s", save, "for snapline trace"],
  ]) {
    const button = element("button", `${text} `, { title: what });
    button.append(element("kbd", key === "Backspace" ? "⌫" : key));
    button.addEventListener("click", act);
    does.append(button);
    keys[key] = act;
  }
  for (let place = 0; place < 9; place++) keys[String(place + 1)] = () => choose(place);
  does.append(note);
  live.append(does, laws, choices);
  live.hidden = false;
  let kept = [];
  try { kept = JSON.parse(sessionStorage.getItem(`snapline ${location.pathname}`)) || []; } catch { /* Nothing was kept. */ }
  ask(kept, "look");
})();
