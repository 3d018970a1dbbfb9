import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Failure } from '../../src/failure.ts';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import { apiServer } from '../../src/lab/cluster-pki.ts';
import { bringUp, saveAgentLogs, takeDown } from './cluster.ts';
import { type ShapeName, workersOf } from './cluster-shape.ts';
import { loadBalancerValues, serveAddresses } from './load-balancer.ts';
import { type ConformanceOptions, parseOptions, usage } from './options.ts';
import { count, readReport, resultsTable } from './report.ts';
import { type SpecSet, sets } from './sets.ts';
import { listSpecs, type Selection, select } from './spec-list.ts';
import { runSuite } from './suite.ts';
import { type SetSummary, summaryText } from './summary.ts';

/**
 * `npm run conformance`: Kubernetes' own end-to-end tests of the network against a lab. Sets that want the same
 * cluster share it; between two that do not, the lab is made anew.
 */
async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') {
    process.stdout.write(usage);
    return 0;
  }
  const interrupt = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => interrupt.abort(new Failure('interrupted', { exitCode: 130 })));
  const binaries = await ensureBinaries(['e2e.test', 'ginkgo', 'kubectl'], { report: say });
  const all = await listSpecs(binaries['e2e.test']);
  const selections = options.sets.map(name => ({
    set: sets[name],
    selection: select(sets[name], all, options),
  }));
  if (options.list) {
    for (const { set, selection } of selections) process.stdout.write(listText(set, selection));
    return 0;
  }
  const summaries: SetSummary[] = [];
  for (const [shape, members] of Map.groupBy(selections, ({ set }) => set.shape)) {
    try {
      for (const { set, selection } of members) {
        if (selection.specs.length === 0)
          throw new Failure(`${set.name}: no spec is selected`, { exitCode: 2 });
        summaries.push(await runSet(set, selection, shape, options, binaries, interrupt.signal));
      }
    } finally {
      if (!options.keep) await takeDown(options.lab, say);
    }
  }
  process.stdout.write(`${summaryText(summaries)}\n`);
  if (summaries.some(({ report }) => report.results.length === 0)) return 2;
  const failed = summaries.some(
    ({ report }) => report.suiteFailures.length > 0 || count(report.results, 'failed') > 0,
  );
  return failed ? 1 : 0;
}

async function runSet(
  set: SpecSet,
  selection: Selection,
  shape: ShapeName,
  options: ConformanceOptions,
  binaries: Readonly<Record<'e2e.test' | 'ginkgo' | 'kubectl', string>>,
  signal: AbortSignal,
): Promise<SetSummary> {
  const out = resolve(options.out, set.name);
  mkdirSync(out, { recursive: true });
  const { announcement } = set;
  const values = [...(announcement ? loadBalancerValues(announcement) : []), ...options.values];
  const { lab, cluster } = await bringUp({ ...options, values, shape, report: say, signal });
  const ended = new AbortController();
  const addresses =
    announcement && (await serveAddresses(lab, cluster, announcement, { signal: ended.signal, report: say }));
  const start = performance.now();
  say(`Running ${set.name}: ${selection.specs.length} specs`);
  const text = await runSuite({
    binaries,
    kubeconfig: cluster.kubeconfig,
    server: apiServer(cluster.plan),
    workers: workersOf(cluster.plan),
    specs: selection.specs,
    procs: options.procs,
    timeout: options.timeout,
    out,
    report: say,
    signal,
  }).finally(() => ended.abort());
  await addresses?.stopped;
  const report = readReport(text, selection.specs);
  writeFileSync(join(out, 'results.tsv'), resultsTable(report.results));
  if (count(report.results, 'failed') > 0) await saveAgentLogs(cluster, join(out, 'agents'));
  const seconds = (performance.now() - start) / 1000;
  return { set: set.name, seconds, report, leftOut: selection.leftOut };
}

function listText(set: SpecSet, { specs, leftOut }: Selection): string {
  const lines = [
    `${set.name}: ${specs.length} specs`,
    ...specs.map(spec => `  ${spec}`),
    ...[...leftOut].flatMap(([reason, of]) => [`left out: ${reason}`, ...of.map(spec => `  ${spec}`)]),
  ];
  return `${lines.join('\n')}\n`;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

try {
  process.exitCode = await main();
} catch (error) {
  const known = error instanceof Failure;
  say(`Error: ${known ? error.message : error instanceof Error ? error.stack : error}`);
  if (known && error.hint !== undefined) say(error.hint);
  process.exitCode = 2;
}
