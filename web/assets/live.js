// Keeps the page up to date: the server says that there is news, and the parts
// marked data-live are taken from the page as it is now. Without this script the
// page reloads itself.
"use strict";
(() => {
  const note = document.getElementById("live");
  let busy = false, again = false;

  const swap = (next) => {
    const fresh = [...next.querySelectorAll("[data-live]")];
    const shown = [...document.querySelectorAll("[data-live]")];
    const same = fresh.length === shown.length && fresh.every((e, i) => e.id === shown[i].id);
    if (!same) {
      document.querySelector("header").replaceWith(next.querySelector("header"));
      document.querySelector("main").replaceWith(next.querySelector("main"));
      return;
    }
    fresh.forEach((e, i) => {
      if (e.innerHTML !== shown[i].innerHTML && !shown[i].contains(document.activeElement.closest("a, summary"))) {
        shown[i].innerHTML = e.innerHTML;
      }
    });
  };

  const refresh = async () => {
    if (busy || document.hidden) { again = true; return; }
    busy = true;
    again = false;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (answer.ok) {
        const next = new DOMParser().parseFromString(await answer.text(), "text/html");
        document.title = next.title;
        swap(next);
        note.textContent = "";
      }
    } catch {
      note.textContent = "The daemon does not answer; trying again.";
    }
    busy = false;
    if (again) { refresh(); }
  };

  const news = new EventSource("api/v1/stream");
  news.addEventListener("news", refresh);
  news.onerror = () => { note.textContent = "Not connected; trying again."; };
  news.onopen = () => { note.textContent = ""; };
  document.addEventListener("visibilitychange", () => { if (!document.hidden && again) { refresh(); } });
})();
