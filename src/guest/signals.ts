// Signal names and numbers of the guest, which is Linux whatever the host is.
import { constants } from 'node:os';
import { BulkheadError } from '../api/errors.ts';

const numbers = new Map<string, number>(Object.entries(constants.signals));
const names = new Map<number, string>();
for (const [name, number] of numbers) {
  // The first name of a number is the usual one (SIGABRT before SIGIOT).
  if (!names.has(number)) names.set(number, name);
}
const HIGHEST_SIGNAL = 64;

/** `SIGTERM`, `TERM` or `15` as a number. Throws INVALID. */
export function signalNumber(name: string): number {
  const upper = name.toUpperCase();
  const number = /^\d{1,2}$/.test(name) ? Number(name) : (numbers.get(upper) ?? numbers.get(`SIG${upper}`));
  if (number === undefined || number < 1 || number > HIGHEST_SIGNAL) {
    throw new BulkheadError('INVALID', `there is no signal ${name}`);
  }
  return number;
}

/** `SIGTERM` for 15; empty for 0. */
export function signalName(number: number): string {
  if (number === 0) return '';
  return names.get(number) ?? `SIG${number}`;
}
