// The moment that is shown: now, or one of the last day, picked by a slider, a time or an event.

import { setText } from "./dom.js";
import { clock } from "./format.js";

export class MomentPicker {
  constructor(form, onPick) {
    this.slider = form.querySelector("input[type=range]");
    this.output = form.querySelector("output");
    this.now = form.querySelector("button");
    this.onPick = onPick;
    this.slider.addEventListener("input", () => setText(this.output, this.words(Number(this.slider.value))));
    this.slider.addEventListener("change", () => {
      const at = Number(this.slider.value);
      onPick(at >= Number(this.slider.max) ? null : at);
    });
    this.now.addEventListener("click", () => onPick(null));
  }

  /** Show which moment is shown; `newest` is the time of the live overview. */
  update(at, newest, oldest) {
    const first = Math.min(oldest ?? newest - 900, newest - 60);
    if (document.activeElement !== this.slider || at === null) {
      this.slider.min = String(Math.floor(first));
      this.slider.max = String(Math.floor(newest));
      this.slider.value = String(Math.floor(at ?? newest));
      setText(this.output, at === null ? "now" : this.words(at));
    }
    this.slider.setAttribute("aria-valuetext", at === null ? "now" : this.words(at));
    this.now.hidden = at === null;
  }

  words(at) {
    const day = new Date(at * 1000);
    const today = new Date().toDateString() === day.toDateString();
    return `${today ? "" : `${day.toISOString().slice(0, 10)} `}${clock(at)}`;
  }
}
