/** Longest text of a VMM or a console in a message. */
const MAX_LINE = 200;
/** What Rust says behind each panic. */
const NOTE = /^note: run with `RUST_BACKTRACE/;

/** The last line that says something, at most 200 characters; without control characters, which must not reach terminals. */
export function lastWords(text: string): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !NOTE.test(line));
  return (lines.at(-1) ?? '')
    .replace(/[^\x20-\x7e\u00a0-\uffff]/g, '')
    .trim()
    .slice(-MAX_LINE);
}
