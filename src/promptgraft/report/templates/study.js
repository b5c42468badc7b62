
// Several backbones, or several methods to compare with: one switch before each group of panels, all of a kind in step.
// On paper every panel is shown.
const groups = [...document.querySelectorAll(".panels")].filter((group) => group.children.length > 1);
const choose = (name, kind) => {
  for (const group of groups) {
    if (group.dataset.switch !== kind) continue;
    const panels = [...group.children];
    if (!panels.some((panel) => panel.dataset.panel === name)) continue;
    panels.forEach((panel) => (panel.hidden = panel.dataset.panel !== name));
    group.previousElementSibling.querySelectorAll("input").forEach((input) => (input.checked = input.value === name));
  }
};
groups.forEach((group, number) => {
  const set = document.createElement("fieldset");
  set.className = "switch";
  set.setAttribute("aria-label", group.dataset.switch ?? "Backbone");
  if (group.dataset.switch) {
    const title = document.createElement("b");
    title.textContent = group.dataset.switch;
    set.append(title);
  }
  for (const panel of group.children) {
    const [label, input, text] = ["label", "input", "span"].map((tag) => document.createElement(tag));
    Object.assign(input, {type: "radio", name: `panel-${number}`, value: panel.dataset.panel});
    input.addEventListener("change", () => {
      const before = set.getBoundingClientRect().top;
      choose(input.value, group.dataset.switch);
      scrollBy(0, set.getBoundingClientRect().top - before);
    });
    text.textContent = panel.dataset.panel;
    label.append(input, text);
    set.append(label);
  }
  group.classList.add("switched");
  group.before(set);
  choose(group.children[0].dataset.panel, group.dataset.switch);
});

// Filter a table by words, and by the values of the columns that ask for it.
const kind = (row, column) => row.cells[column].dataset.kind ?? row.cells[column].textContent;
for (const table of document.querySelectorAll("table.filterable")) {
  const rows = [...table.tBodies[0].rows];
  const bar = document.createElement("div");
  bar.className = "filters";
  bar.setAttribute("role", "search");
  const words = document.createElement("input");
  const name = table.getAttribute("aria-label");
  Object.assign(words, {type: "search", placeholder: "Filter", autocomplete: "off", spellcheck: false});
  words.setAttribute("aria-label", `Filter ${name} by words`);
  const count = document.createElement("output");
  const selects = [...table.querySelectorAll("th[data-filter]")].flatMap((heading) => {
    const column = heading.cellIndex;
    const values = [...new Set(rows.map((row) => kind(row, column)))].sort();
    if (values.length < 2) return [];
    const select = document.createElement("select");
    const title = heading.textContent.trim();
    select.setAttribute("aria-label", title);
    select.append(new Option(`${title}: all`, ""), ...values.map((value) => new Option(value, value)));
    select.dataset.column = column;
    return [select];
  });
  const texts = rows.map((row) => row.textContent.toLowerCase() + (row.querySelector("code")?.title ?? ""));
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      const fits = wanted.every((word) => texts[index].includes(word)) &&
        selects.every((select) => !select.value || kind(row, select.dataset.column) === select.value);
      row.hidden = !fits;
      shown += fits;
    });
    count.textContent = shown === rows.length ? `${shown} ${name}` : `${shown} of ${rows.length} ${name}`;
  };
  [words, ...selects].forEach((control) => control.addEventListener("input", apply));
  bar.append(words, ...selects, count);
  table.closest(".scroll").before(bar);
  apply();
}

// A number leads to its trials and the command that runs each of them again.
const popover = document.querySelector("#of-a-number");
for (const button of document.querySelectorAll("button[data-trials]")) {
  button.addEventListener("click", () => {
    popover.querySelector("h3").textContent = button.dataset.label;
    popover.querySelector(".tells").textContent = button.dataset.tells;
    const entries = button.dataset.trials.split(" ").filter(Boolean).map((key) => {
      const entry = document.createElement("li");
      const command = document.createElement("code");
      command.textContent = `${popover.dataset.command} ${key}`;
      entry.append(command);
      const row = document.getElementById(`t-${key}`);
      if (row) {
        const link = document.createElement("a");
        link.href = `#t-${key}`;
        link.textContent = "its row";
        link.addEventListener("click", () => {
          row.hidden = false;
          popover.hidePopover();
        });
        entry.append(link);
      }
      return entry;
    });
    popover.querySelector("ol").replaceChildren(...entries);
    popover.showPopover();
  });
}
