// What of a guest's work waited, as bulkhead top shows it.

/** As the guest says them, beside what people call them. */
const RESOURCES = [
  ['cpu', 'cpuSomeAvg10'],
  ['memory', 'memorySomeAvg10'],
  ['io', 'ioSomeAvg10'],
] as const;

/**
 * The resources for which some work of the guest waited in its last ten seconds, each with the part of the time; `-` where none
 * did, and empty where the guest said nothing. `guest` is what it says of itself, in which nothing is certain.
 */
export function pressureText(guest: unknown): string {
  const pressure = fieldsOf(fieldsOf(guest)?.pressure);
  if (pressure === undefined) return '';
  const waits = RESOURCES.flatMap(([name, field]) => {
    const percent = Math.round(Number(pressure[field]));
    return percent >= 1 && percent <= 100 ? [`${name} ${percent}%`] : [];
  });
  return waits.join(' ') || '-';
}

function fieldsOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null ? { ...value } : undefined;
}
