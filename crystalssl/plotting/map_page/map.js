// Crystals as points on a canvas. They are written into its pixels, which takes some milliseconds for tens of thousands of
// them on a machine without a graphics card too, where libraries that draw with WebGL stand still, and tells which point
// lies under the pointer.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const xy = new Float32Array(bytes(data.points));
  const n = data.ids.length;
  const sizes = new Uint32Array(bytes(data.sizes));
  const atoms = new Uint8Array(bytes(data.atoms));
  const places = new Uint16Array(bytes(data.places));
  const lattices = new Float32Array(bytes(data.lattices));
  const starts = new Uint32Array(n + 1);
  sizes.forEach((size, i) => { starts[i + 1] = starts[i] + size; });
  const columns = data.columns.map((column) => (column.classes
    ? { name: column.name, classes: column.classes, values: new Uint16Array(bytes(column.codes)) }
    : { name: column.name, values: new Float32Array(bytes(column.numbers)) }));

  // ---------------------------------------------------------------- colours, as little-endian pixels with their sign

  const OPAQUE = 0xff000000 | 0;
  const GREY = 0xffcccccc | 0, PALE = 0xffe4e4e4 | 0, RED = 0xff0000dd | 0;
  const PALETTE = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf"];
  const OTHERS = "#888888";
  const pixel = (r, g, b) => OPAQUE | (b << 16) | (g << 8) | r;
  const parse = (hex) => pixel(...[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const css = (value) => `rgb(${value & 255}, ${(value >> 8) & 255}, ${(value >> 16) & 255})`;
  const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"]
    .map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const viridis = (share) => {
    const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
    const left = Math.min(Math.floor(at), VIRIDIS.length - 2);
    return pixel(...VIRIDIS[left].map((low, k) => Math.round(low + (at - left) * (VIRIDIS[left + 1][k] - low))));
  };
  const colors = new Int32Array(n);
  const shown = (value) => (Number.isNaN(value) ? "unknown" : String(Number(value.toPrecision(4))));

  function colorBy(number) {
    const column = columns[number];
    const legend = $("legend");
    legend.replaceChildren();
    if (!column) {
      colors.fill(parse(PALETTE[0]));
    } else if (column.classes) {
      column.values.forEach((code, i) => { colors[i] = parse(PALETTE[code] || OTHERS); });
      column.classes.slice(0, PALETTE.length).forEach((name, code) => addClass(legend, PALETTE[code], name));
      if (column.classes.length > PALETTE.length) addClass(legend, OTHERS, "others");
    } else {
      // The colours of a few extreme values would leave one for all others.
      const known = column.values.filter((value) => !Number.isNaN(value)).sort();
      const low = known[Math.floor(0.02 * (known.length - 1))];
      const high = known[Math.ceil(0.98 * (known.length - 1))];
      column.values.forEach((value, i) => {
        colors[i] = Number.isNaN(value) ? GREY : viridis(high > low ? (value - low) / (high - low) : 0.5);
      });
      const scale = document.createElement("div");
      scale.className = "scale";
      const stops = [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1].map((share) => css(viridis(share)));
      scale.style.background = `linear-gradient(to right, ${stops})`;
      const ends = document.createElement("div");
      ends.className = "ends";
      for (const end of known.length ? [`≤ ${shown(low)}`, `≥ ${shown(high)}`] : ["unknown"]) {
        ends.append(Object.assign(document.createElement("span"), { textContent: end }));
      }
      legend.append(column.name, scale, ends);
    }
    draw();
  }

  function addClass(legend, color, name) {
    const entry = Object.assign(document.createElement("span"), { className: "class" });
    const dot = document.createElement("i");
    dot.style.background = color;
    entry.append(dot, name);
    legend.append(entry);
  }

  // ---------------------------------------------------------------- drawing

  const plot = $("plot");
  const canvas = $("points");
  const loop = $("loop");
  const context = canvas.getContext("2d", { alpha: false });
  let width = 0, height = 0, ratio = 1, image, pixels, owners;
  const view = { x: 0, y: 0, scale: 1 }; // where the middle of the points is, in pixels, and how large their unit is
  let marked = null; // of each point whether it is found or selected; null where nothing is searched or selected
  let clicked = -1;

  const fit = () => { view.x = width / 2; view.y = height / 2; view.scale = 0.46 * Math.min(width, height); };
  const place = (i) => [view.x + view.scale * xy[2 * i], view.y - view.scale * xy[2 * i + 1]];

  // Steps from the middle of a disc to its pixels: those on the edge, through which half of what is below shows, so that
  // it looks round, and those within.
  function disc(radius) {
    const edge = [], inside = [];
    for (let v = -radius; v <= radius; v++) {
      for (let u = -radius; u <= radius; u++) {
        const beyond = Math.hypot(u, v) - radius;
        if (beyond < 0.5) (beyond > -0.5 ? edge : inside).push(v * width + u);
      }
    }
    return { radius, edge: Int32Array.from(edge), inside: Int32Array.from(inside) };
  }

  let shape; // of the points, as they were drawn last

  function draw() {
    if (!image) return;
    const zoom = view.scale / (0.46 * Math.min(width, height));
    const radius = (n < 3000 ? 4 : n < 15000 ? 3 : 2) * Math.min(Math.max(zoom, 1) ** 0.25, 2);
    shape = disc(Math.round(ratio * radius));
    pixels.fill(-1);
    if (marked) paintAll(0);
    paintAll(1);
    if (clicked >= 0) {
      paint(disc(shape.radius + Math.round(4 * ratio)), clicked, RED);
      paint(disc(shape.radius + Math.round(ratio)), clicked, colors[clicked]);
    }
    context.putImageData(image, 0, 0);
    known = false;
  }

  function paintAll(wanted) {
    for (let i = 0; i < n; i++) {
      if (marked === null || marked[i] === wanted) paint(shape, i, wanted ? colors[i] : PALE);
    }
  }

  // Where the middle of a point is among the pixels, -1 if its disc is not all in view.
  function pixelOf(i, radius) {
    const x = Math.round(view.x + view.scale * xy[2 * i]);
    const y = Math.round(view.y - view.scale * xy[2 * i + 1]);
    return x < radius || y < radius || x >= width - radius || y >= height - radius ? -1 : y * width + x;
  }

  function paint({ radius, edge, inside }, i, color) {
    const at = pixelOf(i, radius);
    if (at < 0) return;
    const half = (color & 0xfefefe) >> 1;
    for (let k = 0; k < edge.length; k++) {
      const there = at + edge[k];
      pixels[there] = (((pixels[there] & 0xfefefe) >> 1) + half) | OPAQUE;
    }
    for (let k = 0; k < inside.length; k++) pixels[at + inside[k]] = color;
  }

  let known = false; // whether `owners` says which point each pixel is of

  function own() {
    owners.fill(-1);
    for (let wanted = marked ? 0 : 1; wanted < 2; wanted++) {
      for (let i = 0; i < n; i++) {
        if (marked !== null && marked[i] !== wanted) continue;
        const at = pixelOf(i, shape.radius);
        if (at < 0) continue;
        for (const steps of [shape.edge, shape.inside]) {
          for (let k = 0; k < steps.length; k++) owners[at + steps[k]] = i;
        }
      }
    }
    known = true;
  }

  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function resize() {
    const before = [width, height];
    ratio = window.devicePixelRatio || 1;
    width = Math.max(1, Math.round(plot.clientWidth * ratio));
    height = Math.max(1, Math.round(plot.clientHeight * ratio));
    for (const one of [canvas, loop]) Object.assign(one, { width, height });
    image = context.createImageData(width, height);
    pixels = new Int32Array(image.data.buffer);
    owners = new Int32Array(width * height);
    if (before[0]) {
      view.x += (width - before[0]) / 2;
      view.y += (height - before[1]) / 2;
    } else fit();
    draw();
  }

  // ---------------------------------------------------------------- the pointer

  function under(event) {
    if (!known) own();
    const x = Math.round(event.offsetX * ratio), y = Math.round(event.offsetY * ratio);
    let found = -1, least = Infinity;
    for (let v = -3; v <= 3; v++) {
      for (let u = -3; u <= 3; u++) {
        if (x + u < 0 || y + v < 0 || x + u >= width || y + v >= height) continue;
        const owner = owners[(y + v) * width + x + u];
        if (owner >= 0 && u * u + v * v < least) [found, least] = [owner, u * u + v * v];
      }
    }
    return found;
  }

  function describe(i, number) {
    const column = columns[number];
    return column.classes ? column.classes[column.values[i]] : shown(column.values[i]);
  }

  function showTip(event) {
    const i = under(event);
    const tip = $("tip");
    tip.hidden = i < 0;
    if (i < 0) return;
    const lines = [data.formulas[i], data.ids[i], ...columns.map((column, k) => `${column.name}: ${describe(i, k)}`)];
    tip.replaceChildren(...lines.flatMap((line) => [line, document.createElement("br")]).slice(0, -1));
    tip.style.left = `${Math.min(event.offsetX + 14, plot.clientWidth - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.min(event.offsetY + 14, plot.clientHeight - tip.offsetHeight - 4)}px`;
  }

  let drag = null; // { x, y, moved, path } while a button is down
  const lassoing = () => $("lasso").getAttribute("aria-pressed") === "true";

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    const path = lassoing() || event.shiftKey ? [[event.offsetX, event.offsetY]] : null;
    drag = { x: event.offsetX, y: event.offsetY, moved: 0, path };
    $("tip").hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return showTip(event);
    const dx = event.offsetX - drag.x, dy = event.offsetY - drag.y;
    Object.assign(drag, { x: event.offsetX, y: event.offsetY, moved: drag.moved + Math.abs(dx) + Math.abs(dy) });
    if (drag.path) {
      drag.path.push([event.offsetX, event.offsetY]);
      drawLoop(drag.path);
    } else {
      view.x += dx * ratio;
      view.y += dy * ratio;
      redraw();
    }
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { moved, path } = drag;
    drag = null;
    drawLoop([]);
    if (moved < 4) look(under(event));
    else if (path) select(path);
  });
  canvas.addEventListener("pointercancel", () => { drag = null; drawLoop([]); });
  canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const factor = Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015));
    const scale = Math.min(Math.max(view.scale * factor, 0.2 * Math.min(width, height)), 500 * Math.min(width, height));
    const change = scale / view.scale;
    view.x = event.offsetX * ratio + (view.x - event.offsetX * ratio) * change;
    view.y = event.offsetY * ratio + (view.y - event.offsetY * ratio) * change;
    view.scale = scale;
    redraw();
  }, { passive: false });
  canvas.addEventListener("dblclick", () => { fit(); redraw(); });

  function drawLoop(path) {
    const pen = loop.getContext("2d");
    pen.clearRect(0, 0, width, height);
    if (path.length < 2) return;
    pen.beginPath();
    path.forEach(([x, y]) => pen.lineTo(x * ratio, y * ratio));
    pen.closePath();
    pen.fillStyle = "rgba(43, 93, 138, 0.12)";
    pen.strokeStyle = "#2b5d8a";
    pen.lineWidth = 1.5 * ratio;
    pen.fill();
    pen.stroke();
  }

  // ---------------------------------------------------------------- search and selection

  let selected = null;

  function select(path) {
    const corners = path.map(([x, y]) => [x * ratio, y * ratio]);
    selected = new Uint8Array(n);
    for (let i = 0; i < n; i++) {
      const [x, y] = place(i);
      let inside = false;
      for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
        const [xa, ya] = corners[a], [xb, yb] = corners[b];
        if (ya > y !== yb > y && x < xa + ((y - ya) / (yb - ya)) * (xb - xa)) inside = !inside;
      }
      selected[i] = inside;
    }
    mark();
  }

  // "O2Ti" is found as "TiO2" is: elements in the order of the alphabet, amounts divided by what they share.
  const PART = /([A-Z][a-z]?)(\d*)/g;
  function canonical(formula) {
    const amounts = new Map();
    let rest = formula;
    for (const [whole, symbol, amount] of formula.matchAll(PART)) {
      amounts.set(symbol, (amounts.get(symbol) || 0) + Number(amount || 1));
      rest = rest.replace(whole, "");
    }
    if (rest || !amounts.size) return null;
    const gcd = (a, b) => (b ? gcd(b, a % b) : a);
    const common = [...amounts.values()].reduce(gcd);
    return [...amounts].sort().map(([symbol, amount]) => symbol + amount / common).join(" ");
  }
  const numberOf = new Map(data.symbols.map((symbol, i) => [symbol, i + 1]));
  const compositions = Array.from({ length: n }, (_, i) => {
    const counts = new Map();
    for (let a = starts[i]; a < starts[i + 1]; a++) counts.set(atoms[a], (counts.get(atoms[a]) || 0) + 1);
    return counts;
  });
  let canonicals = null; // made with the first search

  function find(text) {
    const words = text.trim().split(/[\s,;–-]+/).filter(Boolean);
    if (!words.length) return null;
    const found = new Uint8Array(n);
    if (words.every((word) => numberOf.has(word))) {
      const numbers = words.map((word) => numberOf.get(word));
      for (let i = 0; i < n; i++) found[i] = numbers.every((number) => compositions[i].has(number));
      return found;
    }
    canonicals = canonicals || compositions.map((counts) =>
      canonical([...counts].map(([number, count]) => data.symbols[number - 1] + count).join("")));
    const formula = canonical(text.trim());
    const lower = text.trim().toLowerCase();
    for (let i = 0; i < n; i++) {
      found[i] = (formula !== null && canonicals[i] === formula) || data.ids[i].toLowerCase().includes(lower);
    }
    return found;
  }

  function mark() {
    const found = find($("search").value);
    marked = found && selected ? found.map((one, i) => one & selected[i]) : found || selected;
    const count = marked ? marked.reduce((sum, one) => sum + one, 0) : n;
    $("count").textContent = marked ? `${count} of ${n} crystals` : `${n} crystals`;
    redraw();
  }

  function exportIds() {
    const lines = data.ids.filter((_, i) => !marked || marked[i]);
    const address = URL.createObjectURL(new Blob([lines.map((line) => `${line}\n`).join("")], { type: "text/plain" }));
    const link = Object.assign(document.createElement("a"), { href: address, download: "ids.txt" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  // ---------------------------------------------------------------- one crystal

  let viewer;

  function look(i) {
    clicked = i;
    redraw();
    if (i < 0) return;
    const heading = Object.assign(document.createElement("h2"), { textContent: data.formulas[i] });
    const table = document.createElement("table");
    const cell = lattices.subarray(9 * i, 9 * i + 9);
    const lengths = [0, 3, 6].map((k) => Math.hypot(cell[k], cell[k + 1], cell[k + 2]).toFixed(2));
    const rows = [["id", data.ids[i]], ...columns.map((column, k) => [column.name, describe(i, k)]),
      ["atoms in the cell", String(sizes[i])], ["a, b, c (Å)", lengths.join(", ")]];
    for (const row of rows) {
      const line = table.insertRow();
      for (const text of row) line.insertCell().textContent = text;
    }
    $("details").replaceChildren(heading, table);
    showCell(i, cell);
  }

  function showCell(i, cell) {
    viewer = viewer || $3Dmol.createViewer($("viewer"), { backgroundColor: "white" });
    if (!viewer) {
      $("viewer").textContent = "The unit cell in three dimensions needs WebGL, which this browser does not offer.";
      return;
    }
    viewer.clear();
    const point = (a, b, c) => ({
      x: a * cell[0] + b * cell[3] + c * cell[6],
      y: a * cell[1] + b * cell[4] + c * cell[7],
      z: a * cell[2] + b * cell[5] + c * cell[8],
    });
    const spheres = [];
    for (let a = starts[i]; a < starts[i + 1]; a++) {
      // Atoms on a face of the cell are on the opposite one as well.
      const copies = [0, 1, 2].map((k) => {
        const share = places[3 * a + k] / 65535;
        return share < 1e-3 || share > 1 - 1e-3 ? [0, 1] : [share];
      });
      for (const u of copies[0]) for (const v of copies[1]) for (const w of copies[2]) {
        spheres.push({ elem: data.symbols[atoms[a] - 1], bonds: [], bondOrder: [], ...point(u, v, w) });
      }
    }
    const model = viewer.addModel();
    model.addAtoms(spheres);
    viewer.setStyle({}, { sphere: { scale: 0.32, colorscheme: "Jmol" } });
    for (let axis = 0; axis < 3; axis++) {
      for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
        const start = [u, v], end = [u, v];
        start.splice(axis, 0, 0);
        end.splice(axis, 0, 1);
        viewer.addLine({ start: point(...start), end: point(...end), color: "#666666" });
      }
    }
    viewer.zoomTo();
    viewer.rotate(-75, "x");
    viewer.rotate(15, "y");
    viewer.render();
  }

  // ---------------------------------------------------------------- what is clicked on

  columns.forEach((column, k) => $("color").append(new Option(column.name, String(k))));
  if (!columns.length) $("color").append(new Option("nothing", "-1"));
  $("color").addEventListener("change", () => colorBy(Number($("color").value)));
  $("search").addEventListener("input", mark);
  $("clear").addEventListener("click", () => { $("search").value = ""; selected = null; mark(); });
  $("export").addEventListener("click", exportIds);
  for (const id of ["pan", "lasso"]) {
    $(id).addEventListener("click", () => {
      for (const other of ["pan", "lasso"]) $(other).setAttribute("aria-pressed", String(other === id));
      plot.classList.toggle("lasso", lassoing());
    });
  }
  new ResizeObserver(resize).observe(plot);
  resize();
  colorBy(Number($("color").value));
  mark();

  // For whoever drives the page by a script: where a crystal is on the screen, and what is found or selected.
  window.crystalMap = {
    locate: (i) => {
      const box = canvas.getBoundingClientRect();
      const [x, y] = place(i);
      return { x: box.left + x / ratio, y: box.top + y / ratio };
    },
    marked: () => data.ids.filter((_, i) => !marked || marked[i]),
    colorOf: (i) => css(colors[i]),
    atomsInView: () => (viewer ? viewer.selectedAtoms({}).length : 0),
  };
})();
