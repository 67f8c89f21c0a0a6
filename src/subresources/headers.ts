// Which headers pass from the API server to a node's agent and back.

/** Of one connection, not of the request. */
const HOP_BY_HOP = new Set([
  ...['connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection', 'te'],
  ...['trailer', 'transfer-encoding', 'upgrade'],
]);
/** Who asks was decided before; an agent needs none of it, and a secret of a user has no business on a node. */
const KEPT_BACK = /^(host|expect|authorization|cookie|x-remote-.*|x-forwarded-.*|impersonate-.*)$/;

type Pairs = [name: string, value: string][];

function pairsOf(raw: readonly string[]): Pairs {
  const pairs: Pairs = [];
  for (let index = 0; index + 1 < raw.length; index += 2)
    pairs.push([raw[index] as string, raw[index + 1] as string]);
  return pairs;
}

function endToEnd(raw: readonly string[]): Pairs {
  const pairs = pairsOf(raw);
  const named = pairs
    .filter(([name]) => name.toLowerCase() === 'connection')
    .flatMap(([, value]) => value.split(',').map((each) => each.trim().toLowerCase()));
  return pairs.filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase()) && !named.includes(name.toLowerCase()));
}

/** Of a request, from `rawHeaders`; flat again, as Node takes it. */
export function requestHeaders(raw: readonly string[]): string[] {
  return endToEnd(raw)
    .filter(([name]) => !KEPT_BACK.test(name.toLowerCase()))
    .flat();
}

/** Of an answer, from `rawHeaders`. */
export function answerHeaders(raw: readonly string[]): string[] {
  return endToEnd(raw).flat();
}
