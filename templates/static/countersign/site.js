// Every page: parts that renew themselves, buttons that copy, forms that ask first. Nothing here is needed to read or decide.
(() => {
  "use strict";

  // <div data-refresh="/path" data-every="10"> is replaced by what /path answers while the page is seen.
  const renew = async (part) => {
    if (document.hidden || part.contains(document.activeElement)) return;
    try {
      const answer = await fetch(part.dataset.refresh, { headers: { "X-Requested-With": "fetch" }, redirect: "error" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const kept of part.querySelectorAll("details[data-keep]")) {
        const same = page.querySelector(`details[data-keep="${kept.dataset.keep}"]`);
        if (same) same.open = kept.open;
      }
      part.replaceChildren(...page.body.childNodes);
    } catch {
      // the server is away: the next round tries again
    }
  };
  for (const part of document.querySelectorAll("[data-refresh]")) {
    setInterval(() => renew(part), 1000 * Number(part.dataset.every || 10));
    document.addEventListener("visibilitychange", () => renew(part));
  }

  // <button data-copy="element-id">: the element's text goes to the clipboard.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  });

  // <form data-confirm="Really?">; a form is sent once, however often its button is pressed.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent || (form.dataset.confirm && !confirm(form.dataset.confirm))) event.preventDefault();
    else if (form.method === "post") form.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.sent; });

  // The user menu closes when something else is chosen.
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.user-menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of document.querySelectorAll("details.user-menu[open]")) menu.open = false;
  });
})();
