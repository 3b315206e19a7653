// Keeps the page up to date: the server says that there is news, and the parts
// marked data-live are taken from the page as it is now. Where the connection is
// lost, or somebody answers in the server's place, the header says so, and it is
// tried again and again. Without this script the page reloads itself.
"use strict";
(() => {
  // A stream opens again after about a second, and after a failure twice as long
  // as the time before, up to about a minute; by chance half as long or half as
  // long again, so that those who lost it together do not come back together.
  const shortest = 1000, longest = 60000;
  // The server is heard of every 15 s: after three times that without a word the
  // connection is dead, whatever the browser thinks of it.
  const deaf = 45000;
  // A page takes less than a second.
  const patience = 20000;

  const header = document.querySelector("header"), note = document.getElementById("live");
  let title = document.title;
  let news, retry = 0, watch = 0, wait = shortest;
  let busy = false, again = false;
  let since = "", fetched = false; // when it was lost, and whether the page was fetched since then all the same

  const show = () => {
    const off = since !== "" && !fetched;
    let text = "";
    if (since) { text = off ? `not connected since ${since}, trying again` : `no live updates since ${since}, fetched now and then`; }
    if (note.textContent !== text) { note.textContent = text; }
    header.classList.toggle("off", off);
    document.title = (off ? "Not connected · " : "") + title;
  };

  const put = (shown, fresh) => {
    if (shown.innerHTML === fresh.innerHTML) { return; }
    const stops = () => [...shown.querySelectorAll("a, summary")];
    const focus = stops().indexOf(document.activeElement);
    shown.innerHTML = fresh.innerHTML;
    if (focus >= 0) { stops()[focus]?.focus({ preventScroll: true }); }
  };

  const swap = (next) => {
    for (const e of header.querySelectorAll("[data-live]")) { put(e, next.getElementById(e.id)); }
    const fresh = [...next.querySelectorAll("main [data-live]")];
    const shown = [...document.querySelectorAll("main [data-live]")];
    if (fresh.length === shown.length && fresh.every((e, i) => e.id === shown[i].id)) {
      fresh.forEach((e, i) => put(shown[i], e));
    } else {
      document.querySelector("main").replaceWith(next.querySelector("main"));
    }
  };

  const refresh = async () => {
    if (busy || document.hidden) { again = true; return; }
    busy = true;
    again = false;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(patience) });
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!answer.ok || !next.querySelector("header #live")) { throw new Error("not this page"); }
      title = next.title;
      swap(next);
      fetched = true;
      if (news.readyState === EventSource.OPEN) { since = ""; }
      show();
    } catch {
      fetched = again = false;
      broken();
    }
    busy = false;
    if (again) { refresh(); }
  };

  const broken = () => {
    clearTimeout(watch);
    news.close(); // also where the browser would try again: it waits as long each time, as all others do
    if (!since) {
      since = new Date().toISOString().slice(11, 19) + " UTC";
      fetched = false;
    }
    show();
    if (retry) { return; }
    retry = setTimeout(listen, wait * (0.5 + Math.random()));
    wait = Math.min(2 * wait, longest);
  };

  const listen = () => {
    clearTimeout(retry);
    retry = 0;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(broken, deaf);
    };
    const sure = () => {
      wait = shortest;
      heard();
    };
    news = new EventSource("api/v1/stream");
    news.addEventListener("news", () => { sure(); refresh(); });
    news.addEventListener("still", sure);
    news.onerror = broken;
    heard();
    if (since) { refresh(); } // where only the stream is refused, the page is to be had
  };

  const hurry = () => { if (retry) { listen(); } };
  window.addEventListener("online", hurry);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { return; }
    hurry();
    if (again) { refresh(); }
  });
  listen();
})();
