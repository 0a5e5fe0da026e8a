// Keys on the pages about approvals. They move the focus; nothing is decided without pressing a button.
(() => {
  "use strict";
  const writing = (node) => node.closest("input, textarea, select, [contenteditable]");
  const list = document.querySelector("[data-keys=list]");
  const one = document.querySelector("[data-keys=one]");
  for (const help of document.querySelectorAll("[data-keys-help]")) help.hidden = false;

  const move = (step) => {
    const links = [...list.querySelectorAll(".items a.strong")];
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    links[Math.min(links.length - 1, Math.max(0, at + step))].focus();
  };
  const focus = (selector) => document.querySelector(selector)?.focus();

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || writing(event.target)) return;
    const keys = list
      ? { j: () => move(1), k: () => move(-1), g: () => { scrollTo(0, 0); move(-Infinity); } }
      : one
        ? { a: () => focus("[data-key=approve]"), d: () => focus("#reason"), q: () => focus("#ask"), u: () => { location.href = "/approvals/"; } }
        : {};
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
})();
