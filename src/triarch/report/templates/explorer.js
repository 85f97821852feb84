// Draws every run with Plotly: any column against any other, in the page's own colours, light or dark.
{
  const section = document.getElementById("explorer");
  const told = JSON.parse(document.getElementById("explorer-data").textContent);
  const plot = document.getElementById("explorer-plot");
  const choices = document.querySelector(".choices");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = (index) => ({
    title: { text: told.columns[index] },
    type: "log",
    gridcolor: colour("--grid"),
    linecolor: colour("--line"),
    zeroline: false,
    automargin: true,
    exponentformat: "power",
    nticks: 6,
    tickangle: 0,
  });
  const draw = () => {
    const x = Number(choices.x.value), y = Number(choices.y.value);
    // Plotly reads some HTML in what it writes.
    const plain = (text) => text.replace(/[&<>]/g, " ");
    const traces = told.families.map((family, index) => ({
      type: "scatter",
      mode: "markers",
      name: plain(family),
      x: told.runs[index].map((run) => run.values[x]),
      y: told.runs[index].map((run) => run.values[y]),
      text: told.runs[index].map((run) => plain(run.name)),
      hovertemplate: "%{text}<br>%{x:.4s} / %{y:.4s}<extra></extra>",
      marker: { size: 9, symbol: index, color: colour(`--series-${(index % told.colours) + 1}`) },
    }));
    const layout = {
      xaxis: axis(x),
      yaxis: axis(y),
      height: 440,
      margin: { t: 10, r: 10 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--ink"), family: getComputedStyle(document.body).fontFamily },
      legend: { orientation: "h", y: 1.08 },
      showlegend: true,
      hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--ink") } },
    };
    Plotly.react(plot, traces, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  };
  const unpack = async () => {
    const packed = atob(document.getElementById("plotly-packed").textContent);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    draw();
    choices.addEventListener("change", draw);
    dark.addEventListener("change", draw);
  };
  if (window.DecompressionStream && window.IntersectionObserver) {
    const near = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      unpack().catch(() => { section.hidden = true; });
    }, { rootMargin: "400px" });
    near.observe(plot);
  } else {
    // A browser from before 2023: the figures above say the same.
    section.hidden = true;
  }
}
