// The form above the table: completion of queries, addresses without empty parts.

const WORDS = ["and", "or", "not", "in", "like", "ilike", "between", "is null", "is not null"];
const FIXED = ["status", "name", "user", "created", "duration", "experiment", "code.dirty", "code.branch", "code.commit"];

function complete(query) {
  const known = [...JSON.parse(document.getElementById("keys").textContent), ...FIXED, ...WORDS];
  const menu = document.getElementById("completions");
  let at = -1;

  function word() {
    return /[\w./`-]*$/.exec(query.value.slice(0, query.selectionStart))[0];
  }

  function close() {
    menu.hidden = true;
    at = -1;
  }

  function take(text) {
    const typed = word();
    const end = query.selectionStart;
    query.setRangeText(`${text} `, end - typed.length, end, "end");
    close();
    query.focus();
  }

  query.addEventListener("input", () => {
    const typed = word().toLowerCase();
    const hits = typed.length ? known.filter((key) => key.toLowerCase().includes(typed) && key !== typed).slice(0, 12) : [];
    menu.replaceChildren(
      ...hits.map((hit) => {
        const item = document.createElement("li");
        item.setAttribute("role", "option");
        item.textContent = hit;
        item.addEventListener("mousedown", (event) => {
          event.preventDefault();
          take(hit);
        });
        return item;
      }),
    );
    menu.hidden = hits.length === 0;
    at = -1;
  });
  query.addEventListener("blur", close);
  query.addEventListener("keydown", (event) => {
    if (menu.hidden) return;
    const items = [...menu.children];
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      at = (at + (event.key === "ArrowDown" ? 1 : -1) + items.length) % items.length;
      items.forEach((item, i) => item.setAttribute("aria-selected", String(i === at)));
      items[at].scrollIntoView({ block: "nearest" });
    } else if ((event.key === "Enter" || event.key === "Tab") && at >= 0) take(items[at].textContent);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
}

const form = document.getElementById("filter");
if (form) {
  complete(document.getElementById("query"));
  document.getElementById("experiment").addEventListener("change", () => form.submit());
  // Empty fields would make addresses that are shared longer, and say nothing.
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
}
