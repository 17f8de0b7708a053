// Numbers and times as people read them.

/** 62.4 -> "1:02"; 3723 -> "1:02:03". */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** "0:04 – 0:06"; of an event within one second "0:04". */
export function range(start, end) {
  const [from, to] = [clock(start), clock(end)];
  return from === to ? from : `${from} – ${to}`;
}

/** The same, said in words. */
export const spokenRange = (start, end) => `${clock(start)} to ${clock(end)}`;

/** 1536 -> "1.5 KB". */
export function bytes(count) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) { count /= 1000; unit += 1; }
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** Seconds of work: 0.0123 -> "12 ms"; 1.5 -> "1.5 s". */
export function duration(seconds) {
  if (seconds < 0.9995) return `${Math.round(1000 * seconds)} ms`;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds);
}

/** An ISO 8601 time as this browser's country writes it, to the second and with the zone that it is
    shown in, or the text itself where it is none. */
export function moment(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return text;
  return time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
}

/** Kinds of text beside events, as people call them. */
export const KINDS = { speech: "Said", writing: "Written", caption: "Description", sidecar: "Subtitle" };

/** plural(1, "video") -> "1 video"; plural(2, "video") -> "2 videos". */
export const plural = (count, noun) => `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;

/** Share of `part` saved of `whole`: "93 %". */
export function saved(before, after) {
  if (!before) return "0 %";
  const percent = 100 * (1 - after / before);
  return `${percent > 99 && percent < 100 ? percent.toFixed(1) : Math.round(percent)} %`;
}
