"use strict";
// Reads values under the pointer, or under a cursor that the arrow keys move.
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const digits = (v, n) => {
    if (v === 0) return "0";
    const d = Math.max(0, n - 1 - Math.floor(Math.log10(Math.abs(v))));
    return String(Number(v.toFixed(Math.min(d, 6)))).replace("-", "−");
  };
  const prefixed = (v, unit) => {
    let at = 0;
    while (Math.abs(v) >= 999.5 && at < 6) { v /= 1000; at++; }
    return digits(v, 3) + " " + ["", "k", "M", "G", "T", "P", "E"][at] + unit;
  };
  const duration = (s) => {
    const a = Math.abs(s);
    if (a === 0) return "0 s";
    if (a < 0.9995e-3) return digits(s * 1e6, 3) + " µs";
    if (a < 0.9995) return digits(s * 1e3, 3) + " ms";
    if (a < 99.95) return digits(s, 3) + " s";
    if (a < 7200) return digits(s / 60, 3) + " min";
    if (a < 172800) return digits(s / 3600, 3) + " h";
    return digits(s / 86400, 3) + " d";
  };
  const format = {
    count: (v) => (Math.abs(v) >= 1e7 ? prefixed(v, "") : digits(v, 7)),
    share: (v) => (v > 0.9995 && v < 1 ? "> 99.9" : digits(v * 100, v < 0.1 ? 2 : 3)) + " %",
    bytes: (v) => prefixed(v, "B"),
    rate: (v) => prefixed(v * 8, "b/s"),
    seconds: duration,
    millis: (v) => digits(v * 1000, 4) + " ms",
    lag: duration,
    factor: (v) => digits(v, 3),
    clock: (v) => new Date(v * 1000).toISOString().slice(0, 16).replace("T", " "),
  };
  // The last point at or before x, of rising values.
  const find = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if (xs[mid] <= x) low = mid; else high = mid - 1;
    }
    return low;
  };
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const source = figure.querySelector("script[type='application/json']");
    const out = figure.querySelector(".read");
    if (!source || !out) continue;
    let data;
    const load = () => data || (data = JSON.parse(source.textContent));
    for (const svg of figure.querySelectorAll("svg.chart")) {
      const pointer = svg.querySelector(".pointer");
      const plot = () => (svg.classList.contains("narrow") ? load().narrow : load().wide);
      const clear = () => { pointer.replaceChildren(); out.textContent = ""; };
      const show = (x) => {
        const p = plot(), d = load();
        const lx = p.xlog ? Math.log10(x) : x;
        const px = p.left + ((lx - p.x0) / (p.x1 - p.x0)) * (p.right - p.left);
        const line = document.createElementNS(NS, "line");
        for (const [k, v] of [["x1", px], ["x2", px], ["y1", p.top], ["y2", p.bottom]]) line.setAttribute(k, v);
        const marks = [line], parts = [format[d.x](x)];
        for (const s of d.series) {
          const xs = s.x || d.xs;
          if (!xs.length || x < xs[0] || (x > xs[xs.length - 1] && d.kind !== "curve")) continue;
          const y = s.y[find(xs, x)];
          if (y === null || y === undefined) continue;
          parts.push([s.name, format[d.y](y)]);
          if (d.kind === "stacked") continue;
          const ly = p.ylog ? Math.log10(y) : y;
          const dot = document.createElementNS(NS, "circle");
          dot.setAttribute("class", "k" + s.ink);
          dot.setAttribute("cx", px);
          dot.setAttribute("cy", p.bottom - ((ly - p.y0) / (p.y1 - p.y0)) * (p.bottom - p.top));
          dot.setAttribute("r", 3.5);
          marks.push(dot);
        }
        pointer.replaceChildren(...marks);
        out.replaceChildren();
        parts.forEach((part, i) => {
          const b = document.createElement("b");
          b.textContent = i ? part[1] : part;
          if (i) out.append(" · " + part[0] + " ");
          out.append(b);
        });
      };
      let cursor = 0.5;
      const at = (share) => {
        const p = plot(), v = p.x0 + share * (p.x1 - p.x0);
        show(p.xlog ? 10 ** v : v);
      };
      svg.addEventListener("pointermove", (e) => {
        const p = plot(), box = svg.getBoundingClientRect();
        const x = ((e.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
        if (x < p.left || x > p.right) return clear();
        cursor = (x - p.left) / (p.right - p.left);
        at(cursor);
      });
      svg.addEventListener("pointerleave", clear);
      svg.addEventListener("blur", clear);
      svg.addEventListener("keydown", (e) => {
        const step = e.shiftKey ? 0.1 : 0.01;
        if (e.key === "ArrowLeft") cursor = Math.max(0, cursor - step);
        else if (e.key === "ArrowRight") cursor = Math.min(1, cursor + step);
        else if (e.key === "Home") cursor = 0;
        else if (e.key === "End") cursor = 1;
        else if (e.key === "Escape") return clear();
        else return;
        e.preventDefault();
        at(cursor);
      });
    }
  }
})();
