// The page's part of the TAESD extension: film strips, picture sliders, the badge on the live preview,
// and the questions for what long work has come to.
// Everything is found by class at the moment of use; where the page is another than expected, nothing happens.
(() => {
    "use strict";

    if (document.documentElement.dataset.taesdExt) return; // loaded twice: by the WebUI and by a second panel
    document.documentElement.dataset.taesdExt = "1";

    const quietly = (act) => (...given) => {
        try {
            return act(...given);
        } catch {
            return undefined; // a page that differs is no reason to disturb anybody
        }
    };

    // Write into a hidden field of the panel, which listens to it; whether there is one.
    function tellPanel(id, words) {
        const field = document.querySelector(`#${id} :is(textarea, input)`);
        if (!field) return false;
        field.value = words;
        field.dispatchEvent(new Event("input", { bubbles: true }));
        return true;
    }

    // Film strips: .taesd-ext-film, made by taesd_ext/ui/markup.py

    const FRAME_MS = 160;
    const LAST_FRAME_MS = 1200;

    const frameButtons = (film) => [...film.querySelectorAll("[data-frame]")];

    function showFrame(film, index) {
        const buttons = frameButtons(film);
        const chosen = buttons[Math.max(0, Math.min(buttons.length - 1, index))];
        if (!chosen) return;
        film.querySelector(".taesd-ext-shown").src = chosen.querySelector("img").src;
        film.querySelector("figcaption").textContent = chosen.getAttribute("aria-label");
        film.querySelector("input[type=range]").value = chosen.dataset.frame;
        for (const button of buttons) button.toggleAttribute("aria-current", button === chosen);
        const strip = chosen.parentElement; // scrollIntoView would move the whole page too
        strip.scrollLeft = chosen.offsetLeft - (strip.clientWidth - chosen.offsetWidth) / 2;
    }

    // The panel's choice of a moment follows a frame that was chosen.
    function choose(film, index) {
        play(film, false);
        showFrame(film, index);
        if (film.closest("#taesd_film")) {
            tellPanel("taesd_moment_seen", film.querySelector("figcaption").textContent.split(" · ")[0]);
        }
    }

    const shownFrame = (film) => Number(film.querySelector("input[type=range]").value);

    function play(film, playing) {
        clearTimeout(film.nextFrame); // of before a quick pause
        const button = film.querySelector(".taesd-ext-play");
        film.classList.toggle("taesd-ext-playing", playing);
        button.textContent = playing ? "⏸" : "▶";
        button.setAttribute("aria-label", playing ? "pause" : "play");
        if (!playing) return;
        const last = frameButtons(film).length - 1;
        const next = quietly(() => {
            if (!film.isConnected || !film.classList.contains("taesd-ext-playing")) return;
            const index = shownFrame(film) >= last ? 0 : shownFrame(film) + 1;
            showFrame(film, index);
            film.nextFrame = setTimeout(next, index === last ? LAST_FRAME_MS : FRAME_MS);
        });
        next();
    }

    // A film that came up shows its last frame: bring that one's place in the strip into sight.
    const lookForFilms = quietly(() => {
        for (const film of document.querySelectorAll(".taesd-ext-film:not([data-seen])")) {
            if (!film.offsetParent) continue; // in a tab that is not open
            film.dataset.seen = "1";
            const strip = film.querySelector(".taesd-ext-strip");
            strip.scrollLeft = strip.scrollWidth;
        }
    });

    document.addEventListener("click", quietly((event) => {
        const film = event.target.closest?.(".taesd-ext-film");
        if (!film) return;
        const frame = event.target.closest("[data-frame]");
        if (frame) {
            choose(film, Number(frame.dataset.frame));
        } else if (event.target.closest(".taesd-ext-play")) {
            play(film, !film.classList.contains("taesd-ext-playing"));
        }
    }));

    document.addEventListener("keydown", quietly((event) => {
        const film = event.target.closest?.(".taesd-ext-film");
        if (!film || event.ctrlKey || event.altKey || event.metaKey) return;
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step && event.target.type !== "range") {
            choose(film, shownFrame(film) + step);
            event.preventDefault();
        } else if (event.key === " " && event.target === film) {
            play(film, !film.classList.contains("taesd-ext-playing"));
            event.preventDefault();
        }
    }));

    document.addEventListener("change", quietly((event) => {
        const film = event.target.type === "range" && event.target.closest(".taesd-ext-film");
        if (film) choose(film, shownFrame(film));
    }));

    document.addEventListener("input", quietly((event) => {
        const range = event.target;
        if (range.type !== "range") return;
        const film = range.closest(".taesd-ext-film");
        if (film) {
            play(film, false);
            showFrame(film, Number(range.value));
        }
        range.closest(".taesd-ext-slider")?.style.setProperty("--cut", `${range.value}%`);
    }));

    // The live preview of the WebUI: .livePreview, which javascript/progressbar.js of the host fills and removes.
    // Nothing of ours goes into it, since the host counts its children; ours lies over it.

    const MOST_FRAMES = 150;
    const MOST_CHARACTERS = 48e6; // of the frames' addresses, which hold the pictures themselves
    const STATUS = "./internal/taesd";
    const MOMENT = "taesd_live_moment";
    const OFFERED_MS = 8000; // how long the page says what was done
    const SAID_MS = 2500; // and the badge

    const element = (name, className, attributes = {}) => {
        const made = Object.assign(document.createElement(name), { className });
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        return made;
    };

    const say = (text) => window.localization?.[text] || text; // the host's translations

    const badgeWanted = () => typeof opts === "undefined" || opts.taesd_ext_badge !== false; // the host's options

    // What the panel decodes when it is its turn: a moment, or the finished image with these parameters. Its box,
    // ui/live_moment.py, comes under the tab's gallery.
    function wantInFull(tab, what) {
        if (!tellPanel(`${MOMENT}_wanted`, `${what}\n${Date.now()}`)) return;
        const box = document.getElementById(MOMENT);
        document.getElementById(`${tab}_gallery_container`).after(box);
        box.classList.remove("taesd-ext-hidden");
    }

    document.addEventListener("click", quietly((event) => {
        const close = event.target.closest?.(`#${MOMENT}_close`);
        if (close) document.getElementById(MOMENT).classList.add("taesd-ext-hidden");
    }));

    // One more of the host's buttons under its gallery.
    const lookForGalleries = quietly(() => {
        for (const tab of ["txt2img", "img2img"]) {
            const row = document.getElementById(`image_buttons_${tab}`);
            const theirs = row?.querySelector("button");
            if (!theirs || row.querySelector(".taesd-ext-again") || !keptForThisPage()) continue;
            const made = element("button", `${theirs.className} taesd-ext-again`, { type: "button" });
            made.title = say("decode this image again, by any VAE");
            made.textContent = "↻";
            made.addEventListener("click", quietly(() => {
                wantInFull(tab, document.getElementById(`html_info_${tab}`).innerText);
            }));
            theirs.parentElement.append(made);
        }
    });

    // The second screen's address, where this WebUI shows people's previews to whoever asks.
    const keptForThisPage = () => document.querySelector("a.taesd-ext-second-screen")?.href;

    // Under a generation whose previews are not by TAESD: the line of taesd_ext/ui/preview_offer.py, and its buttons.
    function offerTaesd(above) {
        const offer = document.querySelector("#taesd_offer [data-offer]");
        if (!offer || document.querySelector(".taesd-ext-offered")) return;
        const { offer: line, done } = offer.dataset;
        const box = element("div", "taesd-ext-notice taesd-ext-offered", { role: "status" });
        const press = (id, words) => {
            const theirs = document.getElementById(id);
            const made = element("button", theirs.className.replace("taesd-ext-hidden", ""), { type: "button" });
            made.textContent = theirs.textContent;
            made.addEventListener("click", quietly(() => {
                if (words) {
                    box.textContent = words;
                    box.classList.add("taesd-ext-good");
                } else {
                    box.remove();
                }
                theirs.click();
                setTimeout(() => box.remove(), OFFERED_MS);
            }));
            return made;
        };
        box.append(line, press("taesd_offer_use", done), press("taesd_offer_dismiss"));
        above.after(box);
    }

    // Taken in the tab, it is no longer offered under a generation.
    document.addEventListener("click", quietly((event) => {
        const taken = event.target.closest?.("#taesd_offer_use");
        if (taken) document.querySelector(".taesd-ext-offered:not(.taesd-ext-good)")?.remove();
    }));

    class LivePreview {
        constructor(host) {
            this.host = host; // the host's .livePreview
            this.tab = host.parentElement.id.split("_")[0]; // "txt2img" or "img2img"
            this.frames = []; // this job's previews: their addresses, and what the badge said of them
            this.scrubbed = null; // index of the frame looked at, null for the newest
            this.said = 0; // until when the badge says what was done
            this.pressed = false; // whether a mouse button went down on the picture
            // While the full view is open, Escape closes it and nothing else: the host's would end the job. It closes
            // when the key comes up, so that none of the repeats of a key held down reaches the host.
            this.onEscape = quietly((event) => {
                if (event.key !== "Escape") return;
                event.stopImmediatePropagation();
                event.preventDefault();
                if (event.type === "keyup") this.closeFull();
            });
            this.build();
            this.watcher = new MutationObserver(quietly(() => this.collect()));
            this.watcher.observe(host, { childList: true });
            this.collect();
        }

        build() {
            this.overlay = element("div", "taesd-ext-overlay");
            this.still = element("img", "taesd-ext-still", { alt: "", hidden: "" });
            this.badge = element("span", "taesd-ext-live", { role: "status", hidden: "" });
            this.full = this.button("⤢", say("show the preview in full view"), () => this.toggleFull());
            this.pause = this.button("⏸", say("pause previews"), () => this.togglePause());
            this.range = element("input", "taesd-ext-scrub", {
                type: "range", min: 0, max: 0, value: 0, "aria-label": say("look back through this job's previews"),
            });
            this.range.addEventListener("input", quietly(() => this.scrub(Number(this.range.value))));
            this.range.addEventListener("mousemove", quietly((event) => {
                const box = this.range.getBoundingClientRect();
                this.scrub(Math.round(((event.clientX - box.left) / box.width) * (this.frames.length - 1)));
            }));
            for (const leave of ["mouseleave", "blur"]) {
                this.range.addEventListener(leave, quietly(() => this.scrub(this.frames.length - 1)));
            }
            const bar = element("div", "taesd-ext-live-bar");
            bar.append(this.badge, this.range, this.pause, ...this.keepers(), this.full);
            this.overlay.append(this.still, bar);
            this.host.after(this.overlay);
        }

        keepers() {
            const page = keptForThisPage();
            if (!page) return [];
            const full = this.button("", say("decode this moment in full"), () => this.wantMoment());
            full.append(element("span", "taesd-ext-wide"), element("span", "taesd-ext-narrow"));
            full.firstChild.textContent = say("Full picture");
            full.lastChild.textContent = "▣";
            return [
                ...(document.getElementById(MOMENT) ? [full] : []),
                this.button("⤓", say("save this preview"), () => this.save(`${page}/save`)),
                this.button("↗", say("show the live preview on a second screen"), () => window.open(page, "_blank")),
            ];
        }

        async wantMoment() {
            const shown = this.frames.slice(0, (this.scrubbed ?? this.frames.length - 1) + 1);
            const known = shown.reverse().find((frame) => frame.status)?.status; // frames may come too quickly to ask
            const { job, shown_step: step } = known ?? (await (await fetch(STATUS)).json());
            wantInFull(this.tab, `${job}/${step}`);
        }

        async save(address) {
            const preview = this.frames[this.scrubbed ?? this.frames.length - 1]?.status?.frame ?? 0;
            const answer = await fetch(address, {
                method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ preview }),
            });
            const said = await answer.json();
            this.badge.hidden = false;
            this.badge.textContent = answer.ok ? `${say("saved")}: ${said.file}` : said.detail;
            this.said = Date.now() + SAID_MS;
        }

        button(sign, label, act) {
            const made = element("button", "taesd-ext-live-button", { type: "button", title: label, "aria-label": label });
            made.textContent = sign;
            made.addEventListener("click", quietly(act));
            return made;
        }

        collect() {
            const newest = this.host.lastElementChild?.src;
            if (!newest || newest === this.frames[this.frames.length - 1]?.src) return;
            this.frames.push({ src: newest, words: "" });
            const characters = this.frames.reduce((sum, frame) => sum + frame.src.length, 0);
            if (this.frames.length > MOST_FRAMES || characters > MOST_CHARACTERS) this.halve();
            this.range.max = this.frames.length - 1;
            if (this.scrubbed === null) this.show();
            this.update();
        }

        halve() {
            const lookedAt = this.scrubbed === null ? null : this.frames[this.scrubbed - (this.scrubbed % 2)];
            this.frames = this.frames.filter((_, index, all) => index % 2 === 0 || index === all.length - 1);
            if (lookedAt) this.scrubbed = this.frames.indexOf(lookedAt);
        }

        scrub(index) {
            const last = this.frames.length - 1;
            this.scrubbed = index >= last ? null : Math.max(0, index);
            this.show();
        }

        show() {
            const index = this.scrubbed ?? this.frames.length - 1;
            this.range.value = index;
            this.still.hidden = this.scrubbed === null;
            const frame = this.frames[index];
            if (!frame) return;
            if (this.scrubbed !== null) this.still.src = frame.src;
            if (this.fullView) this.fullView.firstElementChild.src = frame.src;
            if (frame.words && Date.now() > this.said) this.badge.textContent = frame.words;
        }

        async update() {
            if (this.asking) return;
            this.asking = true;
            const frame = this.frames[this.frames.length - 1];
            try {
                const answer = await fetch(STATUS);
                const status = answer.ok ? await answer.json() : null;
                const shown = status?.enabled && status.frames > 0;
                this.badge.hidden = !shown || !badgeWanted();
                if (badgeWanted() && status && !status.enabled) offerTaesd(this.host.parentElement);
                if (shown) {
                    frame.status = status;
                    const share = (100 * status.share).toFixed(1);
                    const detail = status.over_budget ? `${say("budget")}: ${status.detail}` : status.detail;
                    for (const place of document.querySelectorAll(".taesd-ext-cost")) place.textContent = status.cost;
                    frame.words =
                        `${status.step}/${status.steps} · ${detail} · ${Math.round(status.milliseconds)} ms · ${share} %`;
                    this.show();
                    this.badge.title = say("step, detail, time of a preview, previews' share of the time");
                }
            } catch {
                this.badge.hidden = true;
            } finally {
                this.asking = false;
                if (frame !== this.frames[this.frames.length - 1]) this.update();
            }
        }

        toggleFull() {
            if (this.fullView) return this.closeFull();
            this.fullView = element("div", "taesd-ext-full", { tabindex: 0, role: "button", "aria-label": say("close the full view") });
            this.fullView.append(element("img", "", { alt: say("Live preview") }));
            this.fullView.addEventListener("click", quietly(() => this.toggleFull()));
            this.fullView.addEventListener("keydown", quietly((event) => {
                if (event.key === "Enter" || event.key === " ") {
                    this.toggleFull();
                    event.preventDefault();
                }
            }));
            document.body.append(this.fullView);
            this.fullView.focus();
            this.show();
            for (const kind of ["keydown", "keyup"]) window.addEventListener(kind, this.onEscape, { capture: true });
        }

        closeFull() {
            this.fullView?.remove();
            this.fullView = null;
            for (const kind of ["keydown", "keyup"]) window.removeEventListener(kind, this.onEscape, { capture: true });
        }

        // A hidden switch of our accordion, which acts on this page's running job alone; the next one starts without it.
        switchOf() {
            return document.querySelector(`#script_${this.tab}_taesd_preview_paused input[type=checkbox]`);
        }

        togglePause() {
            const control = this.switchOf();
            if (!control) return;
            control.click();
            this.paused = control.checked;
            this.pause.textContent = this.paused ? "▶" : "⏸";
            const label = this.paused ? say("resume previews") : say("pause previews");
            this.pause.title = label;
            this.pause.setAttribute("aria-label", label);
            if (this.paused) this.badge.textContent = say("paused"); // until the next preview
        }

        close() {
            this.watcher.disconnect();
            this.overlay.remove();
            this.closeFull();
            const control = this.paused ? this.switchOf() : null;
            if (control?.checked) control.click();
        }
    }

    // The panel. Its tabs bring themselves up to date when they are chosen; the host's own tab around them, and a
    // checkpoint that was changed at the top of the page, are noticed here.

    const LOOK_EVERY_MS = 4000;
    const MOST_SILENCES = 30;

    class Panel {
        constructor(tabs) {
            this.tabs = tabs; // of ui/panel.py, in a WebUI
            this.silences = 0; // of the server
            this.inSight = this.isShown(tabs);
            this.sight = new IntersectionObserver(quietly(() => this.look()));
            this.sight.observe(tabs);
            this.timer = setInterval(quietly(() => this.askForModel()), LOOK_EVERY_MS);
        }

        isShown(element) {
            return element.offsetParent !== null;
        }

        look() {
            const inSight = this.isShown(this.tabs);
            if (inSight && !this.inSight) this.refresh();
            this.inSight = inSight;
        }

        refresh() {
            [...this.tabs.querySelectorAll("button.taesd-ext-refresh")].find(this.isShown)?.click();
        }

        async askForModel() {
            if (!this.tabs.isConnected) return this.close();
            const status = this.tabs.querySelector("#taesd_models_status [data-model]");
            if (document.hidden || !status || !this.isShown(status)) return;
            try {
                const answer = await fetch(STATUS);
                if (!answer.ok) return this.close(); // no such address here
                const model = (await answer.json()).model ?? "";
                this.silences = 0;
                if (status.dataset.model !== model && this.model !== model) this.refresh();
                this.model = model; // asked for once only, should the page not come to show it
            } catch {
                if (++this.silences > MOST_SILENCES) this.close(); // a short one is a restart, or a machine asleep
            }
        }

        close() {
            clearInterval(this.timer);
            this.sight.disconnect();
        }
    }

    // Long work, ui/work.py: while its bar is shown, a hidden button is pressed for each new answer. A worker keeps the
    // time, since browsers let a page's own timers sleep when another tab is in front.

    const ASK_EVERY_MS = 250;
    const LOST_AFTER_MS = 4000; // an answer that did not come
    const LEFT = "./internal/taesd/left";

    const asked = new Map(); // a task -> its last answer that was followed by a question, and when
    let ticking = false;

    const runningTasks = () => [...document.querySelectorAll("[data-task]")].map((bar) => bar.dataset);

    const ask = quietly(() => {
        for (const { task, poll, beat } of runningTasks()) {
            const last = asked.get(task);
            if (last?.beat === beat && Date.now() - last.at < LOST_AFTER_MS) continue;
            asked.set(task, { beat, at: Date.now() });
            document.getElementById(poll)?.click();
        }
    });

    // gradio closes its open menus at a click anywhere else, this one too.
    document.addEventListener("click", quietly((event) => {
        if (!event.isTrusted && event.target.closest(".taesd-ext-hidden")) event.stopPropagation();
    }));

    const lookForTasks = quietly(() => {
        if (ticking || !runningTasks().length) return;
        ticking = true;
        const code = new Blob([`setInterval(() => postMessage(0), ${ASK_EVERY_MS})`]);
        try {
            new Worker(URL.createObjectURL(code)).onmessage = ask;
        } catch {
            setInterval(ask, ASK_EVERY_MS);
        }
    });

    window.addEventListener("pagehide", quietly(() => {
        for (const { task } of runningTasks()) navigator.sendBeacon(`${LEFT}?task=${task}`);
    }));

    let panel = null;

    const lookForPanel = quietly(() => {
        const tabs = document.getElementById("taesd_tabs");
        if (tabs && tabs !== panel?.tabs) {
            panel?.close();
            panel = new Panel(tabs);
        }
    });

    const live = new Map(); // the host's element -> ours

    // Before the host's picture viewer, which would open over our full view. The host changes pictures at any moment, even
    // between a button's way down and up, and then there is no click.
    for (const kind of ["mousedown", "mouseup", "click"]) {
        document.addEventListener(kind, quietly((event) => {
            const ours = live.get(event.target.closest?.(".livePreview"));
            if (!ours || event.button !== 0) return;
            event.stopPropagation();
            if (kind === "mouseup" && ours.pressed) ours.toggleFull();
            ours.pressed = kind === "mousedown";
        }), { capture: true });
    }

    const lookForLivePreviews = quietly(() => {
        for (const [host, ours] of live) {
            if (!host.isConnected) {
                live.delete(host);
                ours.close();
            }
        }
        for (const host of document.querySelectorAll(".livePreview")) {
            if (!live.has(host)) live.set(host, new LivePreview(host));
        }
    });

    new MutationObserver(() => {
        lookForLivePreviews();
        lookForFilms();
        lookForGalleries();
        lookForPanel();
        lookForTasks();
    }).observe(document.documentElement, { childList: true, subtree: true });
})();
