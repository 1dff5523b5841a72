// The choice that all parts share, the theme, and the first drawing.

const groupSelect = byId('group'), scopeSelect = byId('scope'), themeButton = byId('theme');

function offerScopes() {
  const { benchmarks, shared } = data.groups[choice.group];
  const options = benchmarks.map((scope) => [scope, data.benchmarks[scope]]);
  const few = points.some((point) => point.group === choice.group && point.scope === SHARED);
  if (few) options.unshift([SHARED, scopeName(SHARED)]);
  if (benchmarks.length > 1) options.unshift([AVERAGE, scopeName(AVERAGE)]);
  if (!fill(scopeSelect, options)) scopeSelect.value = String(options[0][0]);
  choice.scope = Number(scopeSelect.value);
}

function choose() {
  document.querySelectorAll('.answer').forEach((part) => {
    part.hidden = Number(part.dataset.group) !== choice.group;
  });
  changed();
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  themeButton.textContent = name === 'dark' ? 'Light page' : 'Dark page';
}

fill(groupSelect, data.groups.map((group, place) => [place, group.label]));
groupSelect.addEventListener('change', () => {
  choice.group = Number(groupSelect.value);
  offerScopes();
  choose();
});
scopeSelect.addEventListener('change', () => {
  choice.scope = Number(scopeSelect.value);
  choose();
});
themeButton.addEventListener('click', () => {
  setTheme(isDark() ? 'light' : 'dark');
  changed();
});
document.querySelectorAll('.answer .name').forEach((button) => button.addEventListener('click', () => {
  const method = data.methods.findIndex((one) => one.name === button.dataset.method);
  openPanel(choice.group, data.groups[choice.group].benchmarks.length > 1 ? AVERAGE : choice.scope, method);
}));

const preference = matchMedia('(prefers-color-scheme: dark)');
setTheme(preference.matches ? 'dark' : 'light');
preference.addEventListener('change', ({ matches }) => {
  setTheme(matches ? 'dark' : 'light');
  changed();
});

let themeOnScreen = 'light';
addEventListener('beforeprint', () => {
  themeOnScreen = document.documentElement.dataset.theme;
  printing = true;
  setTheme('light');
  changed();
});
addEventListener('afterprint', () => {
  printing = false;
  setTheme(themeOnScreen);
  changed();
});
let pending = 0, drawnWidth = innerWidth;
addEventListener('resize', () => {
  if (innerWidth === drawnWidth || printing) return;
  clearTimeout(pending);
  pending = setTimeout(() => {
    drawnWidth = innerWidth;
    changed();
  }, 150);
});

offerScopes();
choose();
document.documentElement.dataset.ready = 'yes';
