"use strict";
// Shows the values of the table behind a chart that stand nearest to a pointer,
// or to a cursor that arrow keys move.
for (const chart of document.querySelectorAll(".chart")) {
  const plot = chart.querySelector(".plot"), out = chart.querySelector(".readout");
  const table = chart.querySelector("details table");
  const names = [...table.tHead.rows[0].cells].map((c) => c.textContent);
  const rows = [...table.tBodies[0].rows];
  const places = rows.map((r) => Number(r.dataset.x) / 1e6);
  let now = -1;
  const drawing = () => [...plot.querySelectorAll("svg")].find((s) => s.getBoundingClientRect().width > 0);
  const show = (i) => {
    now = i;
    const svg = drawing();
    const left = Number(svg.dataset.left), right = Number(svg.dataset.right);
    const cursor = svg.querySelector(".cursor"), x = left + places[i] * (right - left);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.classList.add("on");
    out.replaceChildren();
    out.classList.add("on");
    [...rows[i].cells].forEach((cell, k) => {
      if (k > 0 && (cell.textContent === "0" || cell.textContent === "-" || cell.textContent === "")) return;
      const name = document.createElement("b");
      name.textContent = names[k];
      out.append(name, " " + cell.textContent + " ");
    });
  };
  plot.addEventListener("pointermove", (e) => {
    const svg = drawing(), box = svg.getBoundingClientRect();
    const left = Number(svg.dataset.left), right = Number(svg.dataset.right);
    const x = ((e.clientX - box.left) / box.width * svg.viewBox.baseVal.width - left) / (right - left);
    let best = 0;
    places.forEach((p, i) => { if (Math.abs(p - x) < Math.abs(places[best] - x)) best = i; });
    if (best !== now) show(best);
  });
  plot.addEventListener("keydown", (e) => {
    const last = rows.length - 1, page = Math.max(1, Math.round(rows.length / 20));
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, PageDown: now + page, PageUp: now - page, Home: 0, End: last }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    show(Math.min(last, Math.max(0, to)));
  });
}
