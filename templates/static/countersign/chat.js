// A conversation, live: the running turn's feed is followed by one EventSource (see job.js for why each connection is made
// here), its words appear as they come, and what changes state is read anew from the server. Without this script the page
// is a static view of the same rows, and its forms work.
(() => {
  "use strict";

  const form = document.getElementById("say");
  const field = form && form.querySelector("textarea");
  if (field) {
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || !(event.ctrlKey || event.metaKey)) return;
      const button = form.querySelector("button.primary");
      event.preventDefault();
      if (!button.disabled && field.value.trim()) form.requestSubmit(button);
    });
  }

  const root = document.getElementById("chat");
  if (!root) return;
  const path = root.dataset.path;
  const part = () => document.getElementById("turns");
  let running = part().dataset.running; // the id of the turn that is followed
  let after = 0;
  let source = null;
  let failures = 0;
  let retryTimer = 0;
  let silence = 0;
  let renewTimer = 0;
  let asked = 0;

  const nearEnd = () => innerHeight + scrollY > document.documentElement.scrollHeight - 160;
  const toEnd = (was) => { if (was) scrollTo({ top: document.documentElement.scrollHeight }); };

  // ---- the words, as they come ----

  let block = ""; // whose words they are: each step of the model begins anew
  const write = (line) => {
    const bubble = document.querySelector(`[data-live="${CSS.escape(running)}"] .live-text`);
    if (!bubble) return;
    const was = nearEnd();
    if (block && block !== line.source) bubble.textContent = "";
    block = line.source;
    bubble.append(line.text); // never markup: what comes in is hostile
    toEnd(was);
  };

  // ---- the turns, as the server has them ----

  const put = (fresh) => {
    const old = document.getElementById(fresh.id);
    if (!old) { part().append(fresh); return; }
    if (old.contains(document.activeElement) && document.activeElement.matches("textarea, button, input")) return;
    for (const one of old.querySelectorAll("textarea")) {
      const same = one.id && fresh.querySelector(`#${CSS.escape(one.id)}`);
      if (same && one.value !== one.defaultValue) same.value = one.value; // what somebody has begun to write
    }
    for (const one of old.querySelectorAll("details[data-keep]")) {
      const same = fresh.querySelector(`details[data-keep="${CSS.escape(one.dataset.keep)}"]`);
      if (same) same.open = one.open;
    }
    const [words, now] = [old.querySelector(".live-text"), fresh.querySelector(".live-text")];
    if (words && now && words.textContent.length >= now.textContent.length) now.textContent = words.textContent;
    else if (now) after = Math.max(after, Number(fresh.dataset.after) || 0); // these words need not come again
    if (old.innerHTML !== fresh.innerHTML) old.replaceWith(fresh);
  };

  const renew = async () => {
    const turn = ++asked;
    const first = oldest();
    if (!first) return;
    try {
      const answer = await fetch(`${path}fragment?from=${first}`, { redirect: "manual" });
      if (answer.status === 404) { location.reload(); return; } // it was deleted
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (turn !== asked) return; // a later question was asked meanwhile
      const fresh = page.getElementById("turns");
      const was = nearEnd();
      for (const one of [...fresh.children]) put(one);
      for (const name of ["running", "open", "title"]) part().dataset[name] = fresh.dataset[name];
      document.getElementById("talk-title").textContent = fresh.dataset.title;
      const send = document.getElementById("send");
      if (send) send.disabled = fresh.dataset.running !== "";
      const stop = document.getElementById("stop");
      if (stop) stop.hidden = fresh.dataset.running === "";
      if (fresh.dataset.running !== running) { close(); running = fresh.dataset.running; block = ""; after = 0; open(); }
      toEnd(was);
    } catch {
      // the server is away: the next round tries again
    }
  };
  const renewSoon = () => { renewTimer ||= setTimeout(() => { renewTimer = 0; renew(); }, 200); };
  // the first turn that may still change: the one that runs, or a job that was started
  const oldest = () => {
    const open = document.querySelector("[data-live]");
    const turns = [...part().children];
    const started = turns.find((one) => one.querySelector(".badge-queued, .badge-running, .badge-waiting, .badge-paused, .badge-compensating"));
    const places = [open && open.closest(".turn"), started].filter(Boolean).map((one) => turns.indexOf(one));
    const place = places.length ? Math.min(...places) : turns.length - 1;
    return turns[place] ? turns[place].dataset.turn : "";
  };

  // ---- the stream ----

  const close = () => {
    clearTimeout(retryTimer);
    clearTimeout(silence);
    if (source) source.close();
    source = null;
  };
  const heard = () => { clearTimeout(silence); silence = setTimeout(again, 40000); };
  const again = () => {
    close();
    if (!running || document.hidden) return;
    if (failures > 4) renew();
    retryTimer = setTimeout(open, Math.min(5000, 250 * 2 ** failures));
  };
  const open = () => {
    if (!running || document.hidden || source) return;
    const turn = document.querySelector(`[data-turn="${CSS.escape(running)}"]`);
    after = Math.max(after, Number((turn && turn.dataset.after) || 0));
    source = new EventSource(`/jobs/${running}/stream?after=${after}`);
    source.onopen = () => { failures = 0; heard(); };
    source.addEventListener("line", (event) => {
      const line = JSON.parse(event.data);
      heard();
      if (line.seq <= after) return;
      after = line.seq;
      if (line.kind === "token" && line.tool === "llm.think") write(line);
      else if (line.kind === "state") renewSoon();
    });
    source.addEventListener("end", () => { close(); renewSoon(); });
    source.addEventListener("here", heard);
    source.addEventListener("again", () => again());
    source.addEventListener("busy", () => { failures = 5; again(); });
    source.onerror = () => { failures += 1; again(); };
  };

  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else { open(); renew(); } });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) { open(); renew(); } });
  setInterval(() => { if (part().dataset.open === "yes" && !document.hidden) renew(); }, 5000);

  if (location.hash === "#end") scrollTo({ top: document.documentElement.scrollHeight });
  open();
})();
