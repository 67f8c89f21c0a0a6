// Folder + inventory + store -> what to do. A pure function: everything that decides about deletion can be tested here.
import { MANAGED_BY_FOLDER, MANAGED_BY_LABEL } from '../api/annotations.ts';
import { KINDS } from '../api/kinds.ts';
import { digestOf } from './canonical.ts';
import type { InventoryRow } from './inventory.ts';
import {
  compareText,
  keyText,
  type ObjectReport,
  type ProblemReason,
  placeText,
  type SourceDocument,
} from './model.ts';
import { manifestFromLive, sourceFileOf } from './ownership.ts';
import { planDocument, planMissing } from './plan-document.ts';
import { type Action, Draft, frozenOver, type Plan, type PlanInput, problemPlace } from './plan-parts.ts';
import { planPrune, reportOrphans } from './plan-prune.ts';

/** Kinds that the folder may declare. What others refer to comes first; its deletion comes last. */
export const SOURCE_KINDS: readonly string[] = KINDS.map(({ kind }) => kind);

export function makePlan(input: PlanInput): Plan {
  const draft = new Draft();
  for (const frozen of input.reading.frozen) draft.problems.push(...frozen.problems);
  const rows = new Map(input.rows.map((row) => [keyText(row.key), row]));
  for (const row of recoveredRows(input, rows)) rows.set(keyText(row.key), row);

  const winners = chooseWinners(input, rows, draft);
  for (const [text, document] of winners) planDocument(input, draft, document, rows.get(text));
  for (const [text, row] of rows) if (!winners.has(text)) planMissing(input, draft, row);
  reportOrphans(input, draft, rows, winners);
  const decision = planPrune(input, draft, rows);

  const standStill = input.strict && draft.problems.some((problem) => STRICT_BLOCKERS.has(problem.reason));
  return {
    ...(standStill ? inAbeyance(input, draft) : inForce(draft)),
    problems: draft.problems,
    pruneMemory: decision.memory,
    ...(decision.checkAfterMs === undefined ? {} : { checkAfterMs: decision.checkAfterMs }),
  };
}

/** In strict mode, one of these anywhere stops every change. */
const STRICT_BLOCKERS: ReadonlySet<ProblemReason> = new Set([
  'SourceInvalid',
  'SourceDuplicate',
  'SourceConflict',
] as const);

function inForce(draft: Draft): Pick<Plan, 'actions' | 'rows' | 'reports'> {
  return {
    actions: sortActions(draft.actions),
    rows: [...draft.rows.values()].sort((a, b) => compareText(keyText(a.key), keyText(b.key))),
    reports: sortReports(draft.reports),
  };
}

/** Nothing moves; what would have moved says why it does not. */
function inAbeyance(input: PlanInput, draft: Draft): Pick<Plan, 'actions' | 'rows' | 'reports'> {
  const waiting = new Set(draft.actions.map((action) => keyText(action.key)));
  const message = 'Strict mode: waits until every problem in the folder is mended.';
  const reports = draft.reports.map(
    (report): ObjectReport =>
      waiting.has(keyText(report.key)) && report.state === 'synced'
        ? { ...report, state: 'held', message }
        : report,
  );
  return { actions: [], rows: [...input.rows], reports: sortReports(reports) };
}

function sortReports(reports: ObjectReport[]): ObjectReport[] {
  return reports.sort((a, b) => compareText(keyText(a.key), keyText(b.key)));
}

function sortActions(actions: Action[]): Action[] {
  const rank = (action: Action): number => {
    const order = SOURCE_KINDS.indexOf(action.key.kind);
    // Deletions follow all else, in reverse order.
    return action.type === 'delete' ? 2 * SOURCE_KINDS.length - order : order;
  };
  return actions.sort((a, b) => rank(a) - rank(b) || compareText(keyText(a.key), keyText(b.key)));
}

/** Objects of ours that a lost inventory forgot, and whose file cannot tell us either: their own state is the record. */
function* recoveredRows(input: PlanInput, rows: ReadonlyMap<string, InventoryRow>): Generator<InventoryRow> {
  for (const [text, live] of input.live) {
    if (rows.has(text) || live.metadata.labels?.[MANAGED_BY_LABEL] !== MANAGED_BY_FOLDER) continue;
    const file = sourceFileOf(live, input.root);
    if (file === undefined) continue;
    const frozen = frozenOver(input.reading, file);
    if (!frozen?.mentions(live.metadata.name)) continue;
    const manifest = manifestFromLive(live);
    yield {
      key: { kind: live.kind, namespace: live.metadata.namespace, name: live.metadata.name },
      file,
      document: 1,
      manifest,
      digest: digestOf(manifest),
      uid: live.metadata.uid,
    };
  }
}

/** One document per object; the others become duplicates. */
function chooseWinners(
  input: PlanInput,
  rows: ReadonlyMap<string, InventoryRow>,
  draft: Draft,
): Map<string, SourceDocument> {
  const claims = Map.groupBy(input.reading.documents, (document) => keyText(document.key));
  const winners = new Map<string, SourceDocument>();
  for (const [text, documents] of claims) {
    const row = rows.get(text);
    const applied =
      documents.find((document) => document.file === row?.file && document.document === row.document) ??
      documents.find((document) => document.file === row?.file);
    // The applied document may still be in a file that is broken now; a second claim does not take over then.
    const frozen = row && !applied ? frozenOver(input.reading, row.file) : undefined;
    const keepsRow = row !== undefined && frozen?.mentions(row.key.name) === true;
    const winner = keepsRow ? undefined : (applied ?? documents[0]);
    if (winner) winners.set(text, winner);
    const holder = winner ?? row;
    for (const document of documents) {
      if (document !== winner && holder) reportDuplicate(draft, document, holder);
    }
  }
  return winners;
}

function reportDuplicate(
  draft: Draft,
  document: SourceDocument,
  holder: { file: string; document: number },
): void {
  const { key, file } = document;
  const message =
    `${placeText(document)}${keyText(key)} is already declared in ${holder.file}, ` +
    `document ${holder.document}, which stays in force; remove one of the two.`;
  draft.problems.push({ reason: 'SourceDuplicate', message, ...problemPlace(document) });
  draft.reports.push({ key, state: 'duplicate', file, document: document.document, message });
}
