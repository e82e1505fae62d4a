// Files dropped or chosen on a page: a few are sent at once, the others wait; `report` hears of each.
window.studio.dropping = (() => {
  const AT_ONCE = 2, EVERY_MS = 250;
  const waiting = [], running = new Map();
  let last = 0;

  function next() {
    while (running.size < AT_ONCE && waiting.length) {
      const { key, file, report } = waiting.shift();
      let told = 0;
      const stop = studio.upload(file, (news) => {
        const now = Date.now();
        if (news.state === "sending" && news.sent < news.total && now - told < EVERY_MS) return;
        told = now;
        if (news.state !== "sending") { running.delete(key); next(); }
        report({ key, ...news });
      });
      running.set(key, stop);
    }
  }

  // `limit` in bytes: what the service would refuse after the last byte is refused before the first.
  function take(files, limit, report) {
    // Each file has a bar of its own, and Quasar's at the top has no name for those who listen.
    window.Quasar?.LoadingBar?.setDefaults({ hijackFilter: () => false });
    for (const file of files || []) {
      const key = `f${++last}`, known = { key, name: file.name, total: file.size };
      if (file.size >= limit) { report({ ...known, state: "large" }); continue; }
      waiting.push({ key, file, report });
      report({ ...known, state: "waiting" });
    }
    next();
  }

  function chosen(input, limit, report) {
    take(input.files, limit, report);
    input.value = "";
  }

  function stop(key, report) {
    const place = waiting.findIndex((one) => one.key === key);
    if (place >= 0) { waiting.splice(place, 1); report({ key, state: "stopped" }); }
    else running.get(key)?.();
  }

  // A file that misses the zone must not replace the page.
  for (const kind of ["dragover", "drop"])
    document.addEventListener(kind, (event) => { if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); });
  window.addEventListener("beforeunload", (event) => { if (running.size || waiting.length) event.preventDefault(); });

  return { take, chosen, stop };
})();
