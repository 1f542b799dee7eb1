// Looks at the page as it is shown and returns what is wrong with it, in words.
(() => {
  const wrong = [];
  const visible = (e) => e.getClientRects().length > 0 && getComputedStyle(e).visibility !== "hidden";
  const name = (e) => e.tagName + (e.id ? "#" + e.id : "") + "." + (e.getAttribute("class") || "") + " " + JSON.stringify((e.textContent || "").trim().slice(0, 40));

  // WCAG 2.2, 1.4.3 and 1.4.11: relative luminance and contrast.
  const parse = (c) => { const n = (c.match(/[\d.]+/g) || []).map(Number); return n.length < 3 ? null : { rgb: n.slice(0, 3), a: n.length > 3 ? n[3] : 1 }; };
  const over = (top, a, below) => top.map((v, i) => v * a + below[i] * (1 - a));
  const luminance = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const background = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c && c.a > 0) layers.push(c);
      if (c && c.a === 1) break;
    }
    return layers.reverse().reduce((below, c) => over(c.rgb, c.a, below), [255, 255, 255]);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || ["SCRIPT", "STYLE", "title"].includes(e.tagName) || !visible(e)) continue;
    const style = getComputedStyle(e);
    let below = background(e);
    if (e.classList.contains("faultname")) {
      const bar = getComputedStyle(e.previousElementSibling);
      below = over(parse(bar.fill).rgb, Number(bar.fillOpacity), below);
    }
    const ink = parse(e instanceof SVGElement ? style.fill : style.color);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const c = contrast(ink.rgb, below);
    seen++;
    if (c < (large ? 3 : 4.5)) wrong.push(`text ${name(e)} has a contrast of ${c.toFixed(2)}`);
  }
  if (seen < 100) wrong.push(`only ${seen} texts are shown`);
  for (const e of document.querySelectorAll("path.burn, path.spread, path.p50, .n-up, .n-down")) {
    if (!visible(e)) continue;
    const style = getComputedStyle(e), c = contrast(parse(style.stroke === "none" ? style.fill : style.stroke).rgb, background(e));
    if (c < 3) wrong.push(`${name(e)} has a contrast of ${c.toFixed(2)}`);
  }

  // Nothing is cut off or too wide.
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) wrong.push(`the page is ${page.scrollWidth} wide, the screen ${page.clientWidth}`);
  for (const e of document.querySelectorAll("svg text")) {
    if (!visible(e)) continue;
    const t = e.getBoundingClientRect(), s = e.ownerSVGElement.getBoundingClientRect();
    if (t.left < s.left - 1 || t.right > s.right + 1 || t.top < s.top - 1 || t.bottom > s.bottom + 1) wrong.push(`text ${name(e)} reaches out of its chart`);
    if (t.height < 9) wrong.push(`text ${name(e)} is ${t.height.toFixed(1)} high`);
  }
  for (const plot of document.querySelectorAll(".plot")) {
    const shown = [...plot.querySelectorAll("svg")].filter((s) => s.getBoundingClientRect().width > 200);
    if (shown.length !== 1) wrong.push(`${shown.length} drawings are shown of ${plot.getAttribute("aria-label")}`);
  }

  // Labels.
  for (const e of document.querySelectorAll("svg[role=img], [role=group], nav")) if (!e.getAttribute("aria-label")) wrong.push(`${name(e)} has no label`);
  for (const e of document.querySelectorAll("section")) {
    const by = e.getAttribute("aria-labelledby");
    if (!e.getAttribute("aria-label") && !(by && document.getElementById(by))) wrong.push(`${name(e)} has no label`);
  }
  for (const e of document.querySelectorAll("svg:not([role=img]):not([aria-hidden=true])")) wrong.push(`${name(e)} is neither a picture nor hidden`);
  for (const e of document.querySelectorAll("th:not([scope])")) wrong.push(`${name(e)} heads neither row nor column`);
  for (const e of document.querySelectorAll(".chart")) if (!e.querySelector("details table tbody tr[data-x]")) wrong.push(`${name(e)} has no table behind it`);
  for (const e of document.querySelectorAll("a[href^='#']")) if (!document.querySelector(e.getAttribute("href"))) wrong.push(`${name(e)} leads nowhere`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) wrong.push("two elements have one id");
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3")) {
    const l = Number(h.tagName[1]);
    if (l > level + 1) wrong.push(`${name(h)} skips a level`);
    level = l;
  }
  if (!page.lang || !document.title) wrong.push("the page has no language or no title");
  if (document.scripts.length !== 1) wrong.push(`the page has ${document.scripts.length} scripts`);
  return wrong;
})()
