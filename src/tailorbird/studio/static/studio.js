// What only a browser can do: cookies, the clipboard, uploads with progress.
window.studio = (() => {
  const prefix = location.pathname.startsWith("/studio") ? "/studio" : "";

  async function signOut() {
    await fetch(prefix + "/sign-out", { method: "POST", redirect: "manual" });
    location.href = prefix + "/sign-in";
  }

  async function copy(text, said) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    if (window.Quasar) Quasar.Notify.create({ message: said, timeout: 1500, position: "bottom" });
  }

  // Streams one file through the relay; `report` gets {state, sent, total, ...}. Returns a function that stops it.
  function upload(file, report) {
    const request = new XMLHttpRequest();
    // This page's account: another tab may have chosen another one since.
    const account = encodeURIComponent(document.querySelector("meta[name=account]")?.content || "");
    const where = `${prefix}/relay/files?filename=${encodeURIComponent(file.name)}&account=${account}`;
    request.open("PUT", where);
    request.upload.onprogress = (event) => report({ state: "sending", name: file.name, sent: event.loaded, total: file.size });
    request.onload = () => {
      let told = {};
      try { told = JSON.parse(request.responseText); } catch { /* not ours: a proxy's page */ }
      const good = request.status < 300;
      report({ state: good ? "done" : "refused", name: file.name, total: file.size, id: told.id, message: told.message || `HTTP ${request.status}` });
    };
    request.onerror = () => report({ state: "refused", name: file.name, total: file.size, message: "" });
    request.onabort = () => report({ state: "stopped", name: file.name, total: file.size });
    request.send(file);
    return () => request.abort();
  }

  // New points for a chart's lines; `summary` is what those hear who do not see it. A chart that is still being made is waited for.
  const unseen = new Map();
  function plot(id, added, summary, tries = 50) {
    if (document.hidden) {
      // A page nobody looks at draws nothing; what came meanwhile is drawn when somebody does.
      const known = unseen.get(id)?.added || [];
      unseen.set(id, { added: added.map((one, place) => [...(known[place] || []), ...one]), summary });
      return;
    }
    const element = document.getElementById(`c${id}`);
    const chart = window.getElement && getElement(id)?.chart;
    if (!element || !chart || !chart.getOption()?.series?.length) {
      if (tries > 0) setTimeout(() => plot(id, added, summary, tries - 1), 200);
      return;
    }
    const series = chart.getOption().series;
    chart.setOption({ series: series.map((one, place) => ({ data: one.data.concat(added[place] || []) })) });
    element.setAttribute("aria-label", summary);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    const waiting = [...unseen];
    unseen.clear();
    for (const [id, { added, summary }] of waiting) plot(id, added, summary);
  });

  // A chart's tooltip: its step, and each line's value there.
  function told(many, step, locale, shares) {
    const row = (one) => {
      const value = one.value[1];
      const text = shares[one.seriesIndex]
        ? `${(100 * value).toLocaleString(locale, { maximumFractionDigits: 1 })} %`
        : value.toLocaleString(locale, { maximumSignificantDigits: 4 });
      return `${one.marker} ${one.seriesName}: <b>${text}</b>`;
    };
    return [`${step} ${many[0].value[0]}`, ...many.map(row)].join("<br>");
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("footer.languages a[data-language]");
    if (!link) return;
    event.preventDefault();
    document.cookie = `tailorbird_language=${link.dataset.language};path=${prefix || "/"};max-age=31536000;samesite=lax`;
    location.reload();
  });

  // A new question brings the end of the page into view, as calmly as the person wants it.
  function toEnd() {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    setTimeout(() => window.scrollTo({ top: document.documentElement.scrollHeight, behavior: calm ? "auto" : "smooth" }), 50);
  }

  return { toEnd, signOut, copy, upload, plot, told, prefix };
})();
