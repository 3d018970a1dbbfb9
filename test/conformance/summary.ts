import Table from 'cli-table3';
import { count, type SetReport, type SpecResult } from './report.ts';
import type { Selection } from './spec-list.ts';

export interface SetSummary {
  readonly set: string;
  readonly seconds: number;
  readonly report: SetReport;
  readonly leftOut: Selection['leftOut'];
}

/** What a person wants to know at the end: the figures of each set, then every spec that did not pass and why. */
export function summaryText(summaries: readonly SetSummary[]): string {
  const table = new Table({
    head: ['SET', 'SPECS', 'PASSED', 'FAILED', 'SKIPPED', 'LEFT OUT', 'TOOK'],
    style: { head: [], border: [] },
  });
  for (const { set, seconds, report, leftOut } of summaries) {
    const { results } = report;
    table.push([
      set,
      results.length,
      count(results, 'passed'),
      count(results, 'failed'),
      count(results, 'skipped'),
      [...leftOut.values()].flat().length,
      `${Math.round(seconds)} s`,
    ]);
  }
  return [table.toString(), ...summaries.flatMap(notPassed)].join('\n');
}

function notPassed({ set, report, leftOut }: SetSummary): string[] {
  const lines = (outcome: SpecResult['outcome']): string[] =>
    report.results
      .filter(each => each.outcome === outcome)
      .flatMap(({ spec, reason }) => [`  ${outcome}: ${spec}`, `      ${shortened(reason)}`]);
  return [
    ...report.suiteFailures.map(each => `\n${set}: ${shortened(each)}`),
    ...headed(`${set}: failed`, lines('failed')),
    ...headed(`${set}: skipped themselves`, lines('skipped')),
    ...headed(
      `${set}: left out`,
      [...leftOut].map(([reason, specs]) => `  ${specs.length}: ${reason}`),
    ),
  ];
}

function headed(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`\n${title}`, ...lines];
}

function shortened(text: string): string {
  return text.length > 300 ? `${text.slice(0, 299)}…` : text;
}
