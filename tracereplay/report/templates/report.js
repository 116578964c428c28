"use strict";
// Joins the columns of the page's data to scenarios, draws every panel, and hands each panel what
// the filters leave. Nothing here builds HTML from data.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const scenarios = data.scenarios;

  const rowsOf = {scenarios: scenarios.map((fields, scenario) => ({scenario, fields}))};
  for (const [name, {scenario, columns}] of Object.entries(data.datasets)) {
    const keys = Object.keys(columns);
    rowsOf[name] = scenario.map((index, at) => {
      const fields = {...scenarios[index]};
      for (const key of keys) fields[key] = columns[key][at];
      return {scenario: index, fields};
    });
  }

  const boxes = [...document.querySelectorAll("#filters input[type=checkbox]")];

  // A scenario is shown when every filter allows its value. The bound runs once, so only the
  // policy filter decides about it.
  const shownScenarios = () => {
    const allowed = new Map();
    for (const box of boxes) {
      if (!allowed.has(box.dataset.key)) allowed.set(box.dataset.key, new Set());
      if (box.checked) allowed.get(box.dataset.key).add(JSON.parse(box.dataset.value));
    }
    return new Set(scenarios.keys().filter((index) => {
      const scenario = scenarios[index];
      for (const [key, values] of allowed) {
        if (scenario.policy === data.boundPolicy && key !== "policy" && key !== "trace") continue;
        if (!values.has(scenario[key])) return false;
      }
      return true;
    }));
  };

  const panels = [...document.querySelectorAll(".panel")].map((element) => {
    const figure = data.figures[element.dataset.figure];
    return {
      element,
      figure,
      panel: figure.panels[Number(element.dataset.panel)],
      holder: element.querySelector(".view"),
      empty: element.querySelector(".empty"),
      view: null,
    };
  });

  const panelRows = (panel, name, shown) => {
    const members = new Set(panel.scenarios.filter((index) => shown.has(index)));
    // Vega marks the rows it is given: each panel gets its own.
    return rowsOf[name]
      .filter((row) => members.has(row.scenario))
      .map((row) => ({...row.fields}));
  };

  // What shows only the bound answers nothing: its panel is empty.
  const hasScenario = (panel, shown) => panel.scenarios.some((index) => shown.has(index)
    && (scenarios[index].policy !== data.boundPolicy || panel.scenarios.length === 1));

  // A bar chart is as high as the rows it shows.
  const barHeight = (panel, shown) =>
    panel.spec.usermeta.row_height * panel.scenarios.filter((index) => shown.has(index)).length;

  const draw = async (entry) => {
    const shown = shownScenarios();
    const spec = structuredClone(entry.panel.spec);
    spec.datasets = {};
    for (const name of entry.figure.datasets) spec.datasets[name] = panelRows(entry.panel, name, shown);
    const result = await vegaEmbed(entry.holder, spec, {
      actions: false,
      renderer: "svg",
      defaultStyle: false,
      tooltip: {theme: "custom", disableDefaultStyle: true},
    });
    entry.view = result.view;
  };

  const update = async () => {
    const shown = shownScenarios();
    document.getElementById("shown").textContent = `${shown.size} of ${scenarios.length} scenarios`;
    for (const row of document.querySelectorAll("tr[data-scenario]")) {
      row.hidden = !shown.has(Number(row.dataset.scenario));
    }
    for (const card of document.querySelectorAll(".verdict")) {
      const members = card.dataset.scenarios.split(" ").map(Number);
      card.hidden = !hasScenario({scenarios: members}, shown);
    }
    for (const entry of panels) {
      const any = hasScenario(entry.panel, shown);
      const alone = entry.panel.scenarios.length === 1;
      entry.element.hidden = !any && (alone || panels.some((other) => other.figure === entry.figure
        && hasScenario(other.panel, shown)));
      entry.holder.hidden = !any;
      entry.empty.hidden = any;
      if (!entry.view || !any) continue;
      for (const name of entry.figure.datasets) entry.view.data(name, panelRows(entry.panel, name, shown));
      if (entry.panel.spec.usermeta) entry.view.height(barHeight(entry.panel, shown));
      await entry.view.runAsync();
    }
  };

  const filters = document.getElementById("filters");
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("change", () => { window.reportUpdated = update(); });
  filters.addEventListener("click", (event) => {
    const {all, none} = event.target.dataset;
    const key = all ?? none;
    if (key === undefined) return;
    for (const box of boxes) if (box.dataset.key === key) box.checked = all !== undefined;
    window.reportUpdated = update();
  });

  for (const choice of document.querySelectorAll("select[data-signal]")) {
    choice.addEventListener("change", () => {
      window.reportUpdated = Promise.all(panels
        .filter((entry) => entry.view && entry.element.dataset.figure === choice.dataset.figure)
        .map((entry) => entry.view.signal(choice.dataset.signal, choice.value).runAsync()));
    });
  }

  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  if (matchMedia("(max-width: 600px)").matches) filters.querySelector("details").open = false;

  // On paper the filters are the legend.
  addEventListener("beforeprint", () => { filters.querySelector("details").open = true; });

  // Vega resizes by the window; hidden holders have no width, so all are drawn before any is hidden.
  window.reportReady = (async () => {
    for (const entry of panels) await draw(entry);
    await update();
    return true;
  })();
  window.reportPanels = panels;
})();
