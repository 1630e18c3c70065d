/* What a script adds to pages that can be read without it: sorting, a switch, the explorer. */
"use strict";

(() => {
  const MINUS = "\u2212";
  const ABSENT = "\u2013";

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  /* ---- tables that can be sorted */

  const keyOf = (row, place) => {
    const cell = row.cells[place];
    const text = cell.dataset.v ?? cell.textContent.trim();
    if (text === "" || text === ABSENT) return null;
    const number = Number(text.replace(MINUS, "-").replaceAll(",", ""));
    return Number.isNaN(number) ? text : number;
  };

  const compare = (first, second) => {
    if (typeof first === "number" && typeof second === "number") return first - second;
    return String(first).localeCompare(String(second), "en", { numeric: true });
  };

  /* Rows without a value stay last in both directions; equal ones keep their first order. */
  const sortRows = (rows, place, direction) => {
    const known = rows.filter((row) => keyOf(row, place) !== null);
    const unknown = rows.filter((row) => keyOf(row, place) === null);
    known.sort((a, b) => direction * compare(keyOf(a, place), keyOf(b, place)));
    return [...known, ...unknown];
  };

  const makeSortable = (table, onSort = () => {}) => {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const first = [...body.rows];
    const sort = (place, order) => {
      heads.forEach((head) => head.removeAttribute("aria-sort"));
      if (order) heads[place].setAttribute("aria-sort", order);
      const direction = order === "descending" ? -1 : 1;
      body.append(...(order ? sortRows(first, place, direction) : first));
    };
    heads.forEach((head, place) => {
      const numeric = head.classList.contains("num");
      const orders = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      const name = head.textContent.trim();
      const button = make("button", { type: "button" });
      if (head.querySelector("a")) {
        button.setAttribute("aria-label", `Sort by ${name}`);
        head.append(" ", button);
      } else {
        button.append(...head.childNodes);
        button.title = `Sort by ${name}`;
        head.append(button);
      }
      button.addEventListener("click", () => {
        const now = orders.indexOf(head.getAttribute("aria-sort"));
        const next = now === 1 ? null : orders[now + 1];
        sort(place, next);
        onSort(next ? place : -1, next);
      });
    });
    return sort;
  };

  /* ---- one of several tables at a time */

  const makeSwitch = (box, number) => {
    const parts = [...box.querySelectorAll(":scope > [data-choice]")];
    const names = [...new Set(parts.map((part) => part.dataset.choice))];
    if (names.length < 2) return;
    const show = (name) => parts.forEach((part) => { part.hidden = part.dataset.choice !== name; });
    const field = make("fieldset", { className: "toggle" });
    field.append(make("legend", { textContent: box.dataset.toggle }));
    names.forEach((name, place) => {
      const input = make("input", { type: "radio", name: `switch-${number}`, value: name });
      input.checked = place === 0;
      input.addEventListener("change", () => show(name));
      field.append(make("label", {}, input, ` ${name}`));
    });
    box.prepend(field);
    show(names[0]);
  };

  /* ---- a place that a link leads to is seen, also inside what is folded */

  const openTarget = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const place = id && document.getElementById(id);
    if (place) place.closest("details")?.setAttribute("open", "");
  };

  document.querySelectorAll("table[data-sortable]").forEach((table) => makeSortable(table));
  document.querySelectorAll("[data-toggle]").forEach(makeSwitch);
  window.addEventListener("hashchange", openTarget);
  openTarget();

  /* ---- explorer */

  const form = document.getElementById("explorer");
  if (!form || !window.XSTILTS) return;

  const data = window.XSTILTS;
  const at = (id) => document.getElementById(`e-${id}`);
  const DIMENSIONS = ["recipes", "targets", "languages"];
  const items = {
    recipes: data.recipes.map((name) => ({ key: name, title: name, page: "" })),
    targets: data.targets.map((row) => ({ key: row.name, title: row.title, page: `targets/${row.name}.html` })),
    languages: data.languages.map((row) => ({ key: row.code, title: row.name, page: `languages/${row.code}.html` })),
  };
  const targets = Object.fromEntries(data.targets.map((row) => [row.name, row]));
  const hasBaseline = data.recipes.includes("none");

  const usual = () => ({
    model: data.models[0].name,
    metric: "",
    rows: "recipes",
    columns: "targets",
    show: "value",
    sort: "",
    order: "",
    recipes: new Set(data.recipes),
    targets: new Set(data.targets.map((row) => row.name)),
    languages: new Set(data.languages.map((row) => row.code)),
  });
  let state = usual();

  /* The address keeps what differs from the usual. */
  const write = () => {
    const first = usual();
    const found = new URLSearchParams();
    for (const key of ["model", "metric", "rows", "columns", "show", "sort", "order"]) {
      if (state[key] !== first[key]) found.set(key, state[key]);
    }
    for (const name of DIMENSIONS) {
      if (state[name].size !== first[name].size) found.set(name, [...state[name]].join(" "));
    }
    history.replaceState(null, "", `#${found}`);
  };

  const read = () => {
    const found = new URLSearchParams(location.hash.slice(1));
    state = usual();
    const allowed = {
      model: data.models.map((row) => row.name),
      metric: metrics(),
      rows: DIMENSIONS,
      columns: DIMENSIONS,
      show: hasBaseline ? ["value", "gain"] : ["value"],
      order: ["ascending", "descending"],
    };
    for (const [key, values] of Object.entries(allowed)) {
      if (values.includes(found.get(key))) state[key] = found.get(key);
    }
    state.sort = found.get("sort") ?? "";
    for (const name of DIMENSIONS) {
      if (!found.has(name)) continue;
      const wanted = found.get(name).split(" ");
      state[name] = new Set(items[name].map((item) => item.key).filter((key) => wanted.includes(key)));
    }
    if (state.rows === state.columns) state.columns = DIMENSIONS.find((name) => name !== state.rows);
  };

  const metrics = () => {
    const found = new Set();
    for (const model of Object.values(data.values)) {
      for (const target of Object.values(model)) Object.keys(target).forEach((name) => found.add(name));
    }
    return ["", ...[...found].sort()];
  };

  const valueOf = (recipe, target, language) => {
    const row = targets[target];
    const metric = state.metric || row.overall;
    const line = data.values[state.model]?.[target]?.[metric]?.[recipe];
    const place = row.languages.indexOf(language);
    return line && place >= 0 ? line[place] : null;
  };

  /* A score, or its gain over none; null where there is none. */
  const look = (recipe, target, language) => {
    const own = valueOf(recipe, target, language);
    if (own === null || state.show === "value") return own;
    const before = recipe === "none" ? null : valueOf("none", target, language);
    return before === null ? null : own - before;
  };

  const chosen = (name) => items[name].filter((item) => state[name].has(item.key));

  /* A mean over a target's languages first, then over targets, as the overview has it. */
  const meanOf = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  const cellOf = (fixed) => {
    const keys = (name) => (name in fixed ? [fixed[name]] : chosen(name).map((item) => item.key));
    const parts = [];
    let count = 0;
    for (const recipe of keys("recipes")) {
      for (const target of keys("targets")) {
        const found = keys("languages").map((code) => look(recipe, target, code)).filter((v) => v !== null);
        if (found.length) parts.push(meanOf(found));
        count += found.length;
      }
    }
    return parts.length ? { value: meanOf(parts), count } : null;
  };

  const shown = (value) => {
    const text = value.toFixed(1);
    if (Number(text) === 0) return "0.0";
    const sign = state.show === "gain" && value > 0 ? "+" : "";
    return sign + text.replace("-", MINUS);
  };

  const heatOf = (value) => {
    const step = data.steps.filter((limit) => Math.abs(value) >= limit).length;
    return `h${value > 0 ? step : -step}`;
  };

  /* Scores are coloured within their column: columns can be hard and easy targets. */
  const spanOf = (cells) => {
    const values = cells.map((cell) => cell.value);
    return [Math.min(...values), Math.max(...values)];
  };

  const shadeOf = (value, [low, high]) =>
    `s${high - low < 0.05 ? 0 : Math.min(4, Math.floor((5 * (value - low)) / (high - low)))}`;

  /* The page of the artifacts behind a number, where one recipe is behind it. */
  const lineageOf = (fixed) => {
    const only = (name) => fixed[name] ?? (state[name].size === 1 ? [...state[name]][0] : null);
    const recipe = only("recipes");
    if (!recipe) return "";
    const target = only("targets");
    return `lineage/cells/${state.model}/${recipe}.html${target ? `#${target}` : ""}`;
  };

  const third = () => DIMENSIONS.find((name) => name !== state.rows && name !== state.columns);

  const draw = () => {
    const all = { rows: chosen(state.rows), columns: chosen(state.columns) };
    const whole = all.rows.map((row) => all.columns.map((column) => cellOf({ [state.rows]: row.key, [state.columns]: column.key })));
    /* Rows and columns without any score are left out, and counted. */
    const rows = all.rows.filter((_, i) => whole[i].some(Boolean));
    const columns = all.columns.filter((_, j) => whole.some((cells) => cells[j]));
    const grid = whole.filter((cells) => cells.some(Boolean)).map((cells) => cells.filter((_, j) => columns.includes(all.columns[j])));
    const empty = [[all.rows.length - rows.length, state.rows], [all.columns.length - columns.length, state.columns]];
    /* Cells that are means over fewer scores than the most of their column are marked. */
    const line = state.rows === "recipes" || state.columns === "recipes";
    const most = (place, row) => {
      if (!line) return 0;
      const cells = state.rows === "recipes" ? grid.map((cells) => cells[place]) : grid[row];
      return Math.max(...cells.map((cell) => cell?.count ?? 0));
    };
    const table = at("table").cloneNode(false);
    const head = make("tr", {}, make("th", { scope: "col", textContent: state.rows.replace(/s$/, "").replace(/^./, (c) => c.toUpperCase()) }));
    columns.forEach((column) => head.append(make("th", { scope: "col", className: "num", textContent: column.title })));
    const body = make("tbody");
    const spans = columns.map((_, j) => spanOf(grid.map((cells) => cells[j]).filter(Boolean)));
    let fewer = false;
    rows.forEach((row, i) => {
      const name = row.page ? make("a", { href: row.page, textContent: row.title }) : make("code", { textContent: row.title });
      const tr = make("tr", {}, make("th", { scope: "row" }, name));
      tr.cells[0].dataset.v = row.title;
      columns.forEach((column, j) => {
        const cell = grid[i][j];
        const td = make("td", { className: "num" });
        if (!cell) {
          td.textContent = ABSENT;
        } else {
          td.dataset.v = cell.value;
          const href = lineageOf({ [state.rows]: row.key, [state.columns]: column.key });
          td.append(href ? make("a", { href, textContent: shown(cell.value) }) : shown(cell.value));
          if (cell.count < most(j, i)) {
            fewer = true;
            td.append(make("span", { className: "fewer", textContent: ` (${cell.count} of ${most(j, i)})` }));
          }
          td.classList.add(state.show === "gain" ? heatOf(cell.value) : shadeOf(cell.value, spans[j]));
        }
        tr.append(td);
      });
      body.append(tr);
    });
    table.append(make("thead", {}, head), body);
    at("table").replaceWith(table);
    const sort = makeSortable(table, (place, order) => {
      state.sort = place < 0 ? "" : place === 0 ? "name" : columns[place - 1].key;
      state.order = order ?? "";
      write();
    });
    const place = state.sort === "name" ? 0 : columns.findIndex((column) => column.key === state.sort) + 1;
    if (state.order && (place || state.sort === "name")) sort(place, state.order);
    describe(rows.length, columns.length, fewer, empty);
    write();
  };

  const describe = (rows, columns, fewer, empty) => {
    const over = third();
    const count = state[over].size;
    const what = state.show === "gain" ? "Points gained over none" : "Scores in percent";
    const mean = count === 1 ? `of ${chosen(over)[0].title}` : `means over ${count} ${over}`;
    const seeds = data.seeds === 1 ? "one seed" : `means over ${data.seeds} seeds`;
    at("caption").textContent =
      `${what}, ${mean}, ${seeds}. Over languages first, then over targets.` +
      (state.show === "gain" ? "" : " Colours go from the lowest to the highest score of a column.") +
      (state.metric ? ` Targets without ${state.metric.replaceAll("_", " ")} are empty.` : "") +
      (fewer ? " Brackets: the scores that a mean is over, where others of the comparison have more." : "");
    const counted = (count, name) => `${count} ${count === 1 ? name.replace(/s$/, "") : name}`;
    const left = empty.filter(([count]) => count).map(([count, name]) => counted(count, name)).join(" and ");
    const nothing = DIMENSIONS.some((name) => !state[name].size) ? "Nothing is chosen." : "There are no such scores.";
    at("status").textContent = rows
      ? `${counted(rows, state.rows)} by ${counted(columns, state.columns)}${left ? `; without such scores: ${left}` : ""}`
      : nothing;
    for (const name of DIMENSIONS) {
      document.getElementById(`s-${name}`).textContent =
        `${name.replace(/^./, (c) => c.toUpperCase())}: ${state[name].size} of ${items[name].length}`;
    }
  };

  const fillSelect = (id, entries) => {
    at(id).replaceChildren(...entries.map(([value, text]) => make("option", { value, textContent: text })));
  };

  const choices = (name) => {
    const field = at(name);
    const bar = make("div", { className: "all" });
    const preset = (text, keys) => {
      const button = make("button", { type: "button", textContent: text });
      button.setAttribute("aria-label", `${text}: ${name}`);
      button.addEventListener("click", () => { state[name] = new Set(keys()); sync(); draw(); });
      bar.append(button);
    };
    const all = items[name].map((item) => item.key);
    preset("All", () => all);
    preset("None", () => []);
    if (name === "languages") preset("Zero-shot", () => all.filter((code) => code !== data.source));
    field.append(bar);
    for (const item of items[name]) {
      const input = make("input", { type: "checkbox", value: item.key, name });
      input.addEventListener("change", () => {
        const now = new Set(state[name]);
        if (input.checked) now.add(item.key); else now.delete(item.key);
        state[name] = new Set(all.filter((key) => now.has(key)));
        draw();
      });
      field.append(make("label", {}, input, ` ${item.title}`));
    }
  };

  const sync = () => {
    for (const key of ["model", "metric", "rows", "columns"]) at(key).value = state[key];
    for (const input of form.querySelectorAll("input[name=show]")) {
      input.checked = input.value === state.show;
      if (input.value === "gain") input.disabled = !hasBaseline;
    }
    for (const input of form.querySelectorAll("input[type=checkbox]")) input.checked = state[input.name].has(input.value);
  };

  const download = () => {
    const table = at("table");
    const quote = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const lines = [...table.rows].map((row) => [...row.cells].map((cell) => quote(cell.dataset.v ?? cell.textContent.trim().replace(ABSENT, ""))).join(","));
    const url = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
    make("a", { href: url, download: `${data.study}-explorer.csv` }).click();
    URL.revokeObjectURL(url);
  };

  fillSelect("model", data.models.map((row) => [row.name, row.title]));
  fillSelect("metric", metrics().map((name) => [name, name ? name.replaceAll("_", " ") : "score of the target"]));
  DIMENSIONS.forEach(choices);
  for (const key of ["model", "metric"]) at(key).addEventListener("change", (event) => { state[key] = event.target.value; draw(); });
  for (const [key, other] of [["rows", "columns"], ["columns", "rows"]]) {
    at(key).addEventListener("change", (event) => {
      /* What stood there changes its place with what was chosen. */
      if (state[other] === event.target.value) state[other] = state[key];
      state[key] = event.target.value;
      state.sort = state.order = "";
      sync();
      draw();
    });
  }
  for (const input of form.querySelectorAll("input[name=show]")) input.addEventListener("change", () => { state.show = input.value; draw(); });
  at("reset").addEventListener("click", () => { state = usual(); sync(); draw(); });
  at("copy").addEventListener("click", download);
  window.addEventListener("hashchange", () => { read(); sync(); draw(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  read();
  sync();
  form.hidden = false;
  draw();
})();
