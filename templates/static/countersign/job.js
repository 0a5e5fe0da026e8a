// The job page, live: one EventSource of our own. Native reconnecting stops for good after a bad answer and cannot carry
// a cursor, so each connection is made here, with ?after=<the last number shown>. Without this script the page is a
// static view of the same rows.
(() => {
  "use strict";

  const root = document.getElementById("job");
  const log = document.getElementById("log");
  const live = document.getElementById("live");
  const follow = document.getElementById("follow");
  const base = `/jobs/${root.dataset.job}/`;
  const KEEP_CHARS = 400000; // of the log on the page; the raw log has all
  const SAID = { live: "live", waiting: "reconnecting…", paused: "paused", polling: "renewed every 5 s", ended: "ended", gone: "signed out or not yours: reload the page" };

  let after = Number(root.dataset.after); // the last entry that this page holds
  let chosen = root.dataset.chosen; // the key of the step that the reader chose; "" follows the job
  let done = root.dataset.done === "yes";
  let source = null;
  let failures = 0;
  let retryTimer = 0;
  let silence = 0;

  const say = (state) => { live.dataset.state = state; live.textContent = SAID[state]; };

  // ---- the log ----

  const element = (tag, name, text) => {
    const made = document.createElement(tag);
    made.className = name;
    if (text !== undefined) made.textContent = text; // never markup: what comes in is hostile
    return made;
  };

  let shownChars = log.textContent.length;
  let following = true;
  const nearEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const toEnd = () => { if (following && follow.checked) log.scrollTop = log.scrollHeight; };
  log.addEventListener("scroll", () => { following = nearEnd(); });
  follow.addEventListener("change", () => { following = true; toEnd(); });

  const append = (line) => {
    if (line.text === "") return;
    document.getElementById("log-empty").hidden = true;
    const blocks = log.querySelectorAll(":scope > .log-block");
    const last = blocks[blocks.length - 1];
    shownChars += line.text.length;
    if (last && line.source && last.dataset.source === line.source) {
      last.lastElementChild.append(line.text);
      last.dataset.seq = line.seq;
    } else {
      const block = element("div", `log-block log-${line.kind}${line.stream ? ` log-${line.stream}` : ""}`);
      block.dataset.source = line.source;
      block.dataset.seq = line.seq;
      if (line.state) block.dataset.state = line.state;
      const head = element("div", "log-head");
      head.append(element("time", "", line.at));
      if (line.step && line.kind !== "state") head.append(" ", element("span", "log-step", line.tool), " ", element("span", "log-key", line.step));
      if (line.kind === "token") head.append(" ", element("span", "log-tag", "model"));
      else if (line.stream === "stderr") head.append(" ", element("span", "log-tag", "stderr"));
      block.append(head, element("pre", "log-text", line.text));
      log.append(block);
    }
    let first = log.querySelector(":scope > .log-block");
    while (shownChars > KEEP_CHARS && first && first.nextElementSibling) {
      shownChars -= first.textContent.length;
      first.remove();
      first = log.querySelector(":scope > .log-block");
    }
  };

  // ---- head, steps, panel ----

  let asked = 0;
  let renewTimer = 0;

  // The list of steps scrolls in its card. Who looks at the current step keeps it in view; who scrolled away stays there.
  const NEXT_PX = 40; // of the row after the current one

  const inView = (list, row) => {
    const [around, one] = [list.getBoundingClientRect(), row.getBoundingClientRect()];
    return one.bottom > around.top && one.top < around.bottom;
  };
  const show = (list) => {
    const row = list.querySelector("tr.chosen");
    if (!row) return;
    const [around, one] = [list.getBoundingClientRect(), row.getBoundingClientRect()];
    const head = list.querySelector("thead").getBoundingClientRect().height;
    if (one.bottom + NEXT_PX > around.bottom) list.scrollTop += one.bottom + NEXT_PX - around.bottom;
    else if (one.top < around.top + head) list.scrollTop -= around.top + head - one.top;
  };
  const listPlace = (part) => {
    const list = part.querySelector(".steps-scroll");
    if (!list) return null;
    const row = list.querySelector("tr.chosen");
    return { top: list.scrollTop, follows: !row || inView(list, row) };
  };
  const keepPlace = (part, place) => {
    const list = part.querySelector(".steps-scroll");
    if (!list) return;
    list.scrollTop = place.top;
    if (place.follows) show(list);
  };

  const replace = (id, page) => {
    const old = document.getElementById(id);
    const fresh = page.getElementById(id);
    if (!old || !fresh) return;
    for (const details of old.querySelectorAll("details[data-keep]")) {
      const same = fresh.dataset.step === old.dataset.step && fresh.querySelector(`details[data-keep="${details.dataset.keep}"]`);
      if (same) same.open = details.open;
    }
    const held = old.contains(document.activeElement) ? document.activeElement : null;
    const rowKey = held && held.closest("tr[data-key]") ? held.closest("tr[data-key]").dataset.key : null;
    if (held && !rowKey) return; // somebody types or reads here with the keyboard: the next round will do
    const top = fresh.dataset.step === old.dataset.step ? old.scrollTop : 0;
    const place = listPlace(old);
    const scrolled = [...old.querySelectorAll("pre.tall")].map((pre) => pre.scrollTop);
    old.replaceWith(fresh);
    fresh.scrollTop = top;
    if (place) keepPlace(fresh, place);
    fresh.querySelectorAll("pre.tall").forEach((pre, index) => { if (top || scrolled[index]) pre.scrollTop = scrolled[index] || 0; });
    if (rowKey) {
      const link = fresh.querySelector(`tr[data-key="${CSS.escape(rowKey)}"] a`);
      if (link) link.focus({ preventScroll: true });
    }
  };

  const renew = async (ids = ["part-head", "part-steps", "part-panel"]) => {
    const turn = ++asked;
    try {
      const answer = await fetch(`${base}fragment?step=${encodeURIComponent(chosen)}`, { redirect: "manual" });
      if (!answer.ok) { if (answer.type === "opaqueredirect" || answer.status === 404) stop("gone"); return; }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (turn !== asked) return; // a later question was asked meanwhile
      for (const id of ids) replace(id, page);
    } catch {
      // the server is away: the stream's own retries will tell
    }
  };
  const renewSoon = () => { renewTimer ||= setTimeout(() => { renewTimer = 0; renew(); }, 250); };

  const choose = (key, push) => {
    chosen = key;
    for (const row of document.querySelectorAll("tr[data-key]")) row.classList.toggle("chosen", row.dataset.key === key);
    if (push) history.pushState(null, "", key ? `?step=${encodeURIComponent(key)}` : location.pathname);
    return renew(["part-steps", "part-panel"]);
  };
  document.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-key]");
    if (!row || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    choose(row.dataset.key, true).then(() => {
      const panel = document.getElementById("part-panel");
      if (panel.getBoundingClientRect().top > innerHeight * 0.8) panel.scrollIntoView({ block: "start", behavior: "smooth" });
    });
  });
  addEventListener("popstate", () => choose(new URLSearchParams(location.search).get("step") || "", false));

  // ---- the stream ----

  const close = () => {
    clearTimeout(retryTimer);
    clearTimeout(silence);
    if (source) source.close();
    source = null;
  };
  const stop = (state) => { close(); done = true; say(state); };
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(again, 40000); // the server says something each 15 s
  };
  const again = () => {
    close();
    if (done || document.hidden) return;
    say(failures > 2 ? "waiting" : "live");
    if (failures > 4) { say("polling"); renew(); }
    retryTimer = setTimeout(open, Math.min(5000, 250 * 2 ** failures));
  };
  const open = () => {
    if (done || document.hidden || source) return;
    source = new EventSource(`${base}stream?after=${after}`);
    source.onopen = () => { failures = 0; say("live"); heard(); };
    source.addEventListener("line", (event) => {
      const line = JSON.parse(event.data);
      if (line.seq <= after) return; // shown already
      after = line.seq;
      append(line);
      toEnd();
      if (line.kind === "state") renewSoon();
      heard();
    });
    source.addEventListener("end", () => { stop("ended"); renewSoon(); });
    source.addEventListener("here", heard);
    source.addEventListener("again", () => again());
    source.addEventListener("busy", () => { failures = 5; again(); });
    source.onerror = () => { failures += 1; again(); };
  };

  document.addEventListener("visibilitychange", () => {
    if (done) return;
    if (document.hidden) { close(); say("paused"); } else { open(); renew(); }
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted && !done) { open(); renew(); } });
  setInterval(() => { if (!done && !document.hidden) renew(["part-head", "part-steps"]); }, 10000); // times go on

  follow.parentElement.hidden = false;
  for (const list of document.querySelectorAll(".steps-scroll")) show(list);
  log.scrollTop = log.scrollHeight;
  if (!done) open();
})();
