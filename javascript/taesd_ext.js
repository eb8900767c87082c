// The page's part of the TAESD extension: film strips, picture sliders, and the badge on the live preview.
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

    const shownFrame = (film) => Number(film.querySelector("input[type=range]").value);

    function play(film, playing) {
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
            setTimeout(next, index === last ? LAST_FRAME_MS : FRAME_MS);
        });
        next();
    }

    document.addEventListener("click", quietly((event) => {
        const film = event.target.closest?.(".taesd-ext-film");
        if (!film) return;
        const frame = event.target.closest("[data-frame]");
        if (frame) {
            play(film, false);
            showFrame(film, Number(frame.dataset.frame));
        } else if (event.target.closest(".taesd-ext-play")) {
            play(film, !film.classList.contains("taesd-ext-playing"));
        }
    }));

    document.addEventListener("keydown", quietly((event) => {
        const film = event.target.closest?.(".taesd-ext-film");
        if (!film || event.ctrlKey || event.altKey || event.metaKey) return;
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step && event.target.type !== "range") {
            play(film, false);
            showFrame(film, shownFrame(film) + step);
            event.preventDefault();
        } else if (event.key === " " && event.target === film) {
            play(film, !film.classList.contains("taesd-ext-playing"));
            event.preventDefault();
        }
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
})();
