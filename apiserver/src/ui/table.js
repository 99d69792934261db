// Rows of a table kept as they should be, changed where they differ, so that focus, selection and place stay. Text comes in as text
// alone: there is no way here by which it could become markup.

// So many rows are shown at first, and so many at most.
const FIRST_ROWS = 50;
const MOST_ROWS = 300;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

// What stands in a cell, from a value: a text, or one of
//   {level, word}        a status: a shape beside the word
//   {at}                 a time, told as an age
//   {lines}              several texts below each other
//   {namespace, name}    a name below its namespace
function content(value) {
  if (value === undefined || value === null || value === "") return [];
  if (typeof value !== "object") return [String(value)];
  if (value.word !== undefined) {
    const mark = element("span", { class: "mark", "aria-hidden": "true" });
    return [element("span", { class: "status", "data-level": value.level }, mark, value.word)];
  }
  if (value.at !== undefined) return [element("time", { datetime: value.at, "data-at": value.at })];
  if (value.lines) return value.lines.map((line) => element("div", {}, line));
  const name = element("span", { class: "name" }, value.name);
  return value.namespace ? [element("span", { class: "place" }, `${value.namespace}/`), element("wbr"), name] : [name];
}

class Table {
  constructor(section) {
    this.section = section;
    this.body = section.querySelector("tbody");
    this.titles = [...section.querySelectorAll("thead th")].map((title) => title.textContent);
    this.note = section.querySelector(".note");
    this.count = section.querySelector(".count");
    this.more = section.querySelector(".more");
    this.rows = new Map();
    this.most = FIRST_ROWS;
    this.more.addEventListener("click", () => {
      const last = this.body.lastElementChild;
      this.most = MOST_ROWS;
      this.again?.();
      // Focus goes on where the new rows begin.
      const next = last?.nextElementSibling;
      next?.setAttribute("tabindex", "-1");
      next?.focus();
    });
  }

  // `rows` in their order, each {key, level, cells}; `count` says how many there are of what.
  show(rows, count, note) {
    this.again = () => this.show(rows, count, note);
    const shown = rows.slice(0, this.most);
    const kept = new Set(shown.map((row) => row.key));
    for (const [key, row] of this.rows) {
      if (kept.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
    let at = this.body.firstElementChild;
    for (const wanted of shown) {
      const row = this.row(wanted);
      if (row === at) at = at.nextElementSibling;
      else this.body.insertBefore(row, at);
    }
    this.count.textContent = count;
    this.note.textContent = note;
    this.note.hidden = !note;
    const left = rows.length - shown.length;
    this.more.hidden = left === 0 || this.most === MOST_ROWS;
    this.more.textContent = `Show more (${left} are not shown)`;
    if (left > 0 && this.most === MOST_ROWS) {
      this.note.hidden = false;
      this.note.textContent = `${note ? `${note}\n` : ""}${left} more are not shown: the filter finds them.`;
    }
    this.section.querySelector("table").hidden = shown.length === 0;
  }

  row({ key, level, cells }) {
    let row = this.rows.get(key);
    if (!row) {
      row = { element: element("tr"), told: [] };
      this.titles.forEach((title, at) => {
        // The first cell names the row.
        row.element.append(at === 0 ? element("th", { scope: "row" }) : element("td", { "data-title": title }));
      });
      this.rows.set(key, row);
    }
    if (row.element.dataset.level !== level) row.element.dataset.level = level;
    cells.forEach((value, at) => {
      const told = JSON.stringify(value ?? "");
      if (row.told[at] === told) return;
      row.told[at] = told;
      row.element.children[at].replaceChildren(...content(value));
      showAges(row.element.children[at]);
    });
    return row.element;
  }
}

function showAges(within) {
  for (const time of within.querySelectorAll("time")) {
    const at = Date.parse(time.dataset.at);
    const text = Number.isNaN(at) ? "" : ageText((api.nowMs() - at) / 1000);
    if (time.textContent === text) continue;
    time.textContent = text;
    time.title = Number.isNaN(at) ? "" : new Date(at).toLocaleString();
  }
}
