// A JSON file as a tree.

const source = document.getElementById("json");
let made = 0;

function show(value, name) {
  if (value === null || typeof value !== "object") {
    const line = document.createElement("div");
    const text = document.createElement("code");
    text.textContent = JSON.stringify(value);
    line.append(name === null ? "" : `${name}: `, text);
    return line;
  }
  const entries = Object.entries(value);
  const box = document.createElement("details");
  box.open = made < 40;
  const title = document.createElement("summary");
  title.textContent = `${name === null ? "" : `${name} `}${Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`}`;
  const list = document.createElement("ul");
  for (const [key, inner] of entries.slice(0, 1000)) {
    made += 1;
    const item = document.createElement("li");
    item.append(show(inner, key));
    list.append(item);
  }
  box.append(title, list);
  return box;
}
if (source) document.getElementById("tree").append(show(JSON.parse(source.textContent), null));
