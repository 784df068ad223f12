// Numbers as people read them. What is not known is a dash.

export const DASH = "–";

export function milliseconds(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  const value = seconds * 1000;
  const size = Math.abs(value);
  if (size < 0.05) return "0";
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function latency(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  return seconds >= 10 ? `${seconds.toFixed(1)} s` : `${milliseconds(seconds)} ms`;
}

export function percent(share, digits = 0) {
  if (share === null || share === undefined) return DASH;
  const value = share * 100;
  if (value > 0 && value < 0.1 && digits < 2) return "<0.1 %";
  return `${value.toFixed(value > 0 && value < 1 ? Math.max(1, digits) : digits)} %`;
}

export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return DASH;
  if (perSecond === 0) return "0";
  if (perSecond < 0.01) return "<0.01";
  return perSecond >= 100 ? perSecond.toFixed(0) : perSecond >= 10 ? perSecond.toFixed(1) : perSecond.toFixed(2);
}

export function age(seconds) {
  if (seconds === null || seconds === undefined) return "never";
  if (seconds < 1) return "<1 s";
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(0)} h`;
}

export function watts(value) {
  if (value === null || value === undefined) return DASH;
  return value >= 1000 ? `${(value / 1000).toFixed(1)} kW` : `${value.toFixed(0)} W`;
}

export function clock(unixSeconds) {
  const at = new Date(unixSeconds * 1000);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}

/** The time, with the date where it is not today's. */
export function dated(unixSeconds) {
  const at = new Date(unixSeconds * 1000);
  const day = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map((n) => String(n).padStart(2, "0")).join("-");
  return at.toDateString() === new Date().toDateString() ? clock(unixSeconds) : `${day} ${clock(unixSeconds)}`;
}

export function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}
