import { stripVTControlCharacters } from 'node:util';
import * as z from 'zod';

/** What became of one spec. */
export interface SpecResult {
  readonly spec: string;
  readonly outcome: 'failed' | 'skipped' | 'passed';
  readonly seconds: number;
  /** Why it failed or skipped itself; empty for one that passed. */
  readonly reason: string;
}

export interface SetReport {
  readonly results: readonly SpecResult[];
  /** Things that went wrong outside of specs, such as a cluster that was not ready. */
  readonly suiteFailures: readonly string[];
}

/** The part of ginkgo's JSON report that is read (ginkgo v2, types.Report); durations are in nanoseconds. */
const failure = z.object({
  Message: z.string().default(''),
});
const specReport = z.object({
  ContainerHierarchyTexts: z.array(z.string()).nullable(),
  LeafNodeType: z.string(),
  LeafNodeText: z.string(),
  State: z.string(),
  RunTime: z.number(),
  Failure: failure.optional(),
});
const ginkgoReport = z.array(
  z.object({
    SpecialSuiteFailureReasons: z.array(z.string()).nullish(),
    SpecReports: z.array(specReport),
  }),
);

const failedStates = new Set(['failed', 'panicked', 'timedout', 'interrupted', 'aborted']);

/** Reads ginkgo's `--json-report` of a run of `specs`. Throws where it is none. */
export function readReport(text: string, specs: readonly string[]): SetReport {
  const results: SpecResult[] = [];
  const suiteFailures: string[] = [];
  for (const suite of ginkgoReport.parse(JSON.parse(text))) {
    suiteFailures.push(...(suite.SpecialSuiteFailureReasons ?? []));
    for (const report of suite.SpecReports) {
      const reason = oneLine(report.Failure?.Message ?? '');
      const failed = failedStates.has(report.State);
      if (report.LeafNodeType !== 'It') {
        if (failed) suiteFailures.push(`${report.LeafNodeType}: ${reason}`);
        continue;
      }
      const spec = [...(report.ContainerHierarchyTexts ?? []), report.LeafNodeText].join(' ');
      const seconds = report.RunTime / 1e9;
      if (failed) results.push({ spec, outcome: 'failed', seconds, reason });
      else if (report.State === 'passed') results.push({ spec, outcome: 'passed', seconds, reason: '' });
      // A spec that was not selected is "skipped" too, but says nothing.
      else if (report.State === 'skipped' && reason !== '')
        results.push({ spec, outcome: 'skipped', seconds, reason });
    }
  }
  const seen = new Set(results.map(({ spec }) => spec));
  const missing = specs.filter(spec => !seen.has(spec));
  if (missing.length > 0) suiteFailures.push(`${missing.length} specs were not run: ${missing.join('; ')}`);
  const order = { failed: 0, skipped: 1, passed: 2 };
  results.sort((a, b) => order[a.outcome] - order[b.outcome] || a.spec.localeCompare(b.spec));
  return { results, suiteFailures };
}

/** One line for each spec: outcome, seconds, spec, reason, separated by tabs. */
export function resultsTable(results: readonly SpecResult[]): string {
  return results
    .map(
      ({ outcome, seconds, spec, reason }) =>
        `${outcome}\t${seconds.toFixed(1)}\t${oneLine(spec)}\t${reason}\n`,
    )
    .join('');
}

export function count(results: readonly SpecResult[], outcome: SpecResult['outcome']): number {
  return results.filter(each => each.outcome === outcome).length;
}

function oneLine(text: string): string {
  return stripVTControlCharacters(text).replace(/\s+/g, ' ').trim();
}
