import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Failure } from '../../src/failure.ts';
import { focusOn } from './spec-list.ts';

export interface SuiteRun {
  readonly binaries: Readonly<Record<'e2e.test' | 'ginkgo' | 'kubectl', string>>;
  readonly kubeconfig: string;
  /** Where the API server is, https://ADDRESS:PORT. */
  readonly server: string;
  /** Nodes that take pods; specs that want more skip themselves. */
  readonly workers: number;
  readonly specs: readonly string[];
  readonly procs: number;
  readonly timeout: string;
  /** Folder for the log and the reports. */
  readonly out: string;
  readonly report: (line: string) => void;
  readonly signal: AbortSignal;
}

/**
 * Runs Kubernetes' e2e.test by ginkgo and gives ginkgo's JSON report. Throws Failure when there is none: the suite
 * did not run. Writes e2e.log, junit.xml and ginkgo.json into `out`.
 */
export async function runSuite(options: SuiteRun): Promise<string> {
  const { out, report } = options;
  mkdirSync(out, { recursive: true });
  const json = join(out, 'ginkgo.json');
  const log = join(out, 'e2e.log');
  rmSync(json, { force: true });
  const code = await ginkgo(options, log);
  if (!existsSync(json))
    throw new Failure(`the suite did not run: ginkgo ended with exit code ${code}`, {
      exitCode: 2,
      hint: `its log is ${log}`,
    });
  report(`  log: ${log}`);
  return readFileSync(json, 'utf8');
}

async function ginkgo(options: SuiteRun, log: string): Promise<number | null> {
  const { binaries, out, report, signal } = options;
  const own = [
    `--procs=${options.procs}`,
    `--timeout=${options.timeout}`,
    '--no-color',
    '--silence-skips',
    '--poll-progress-after=5m',
    `--focus=${focusOn(options.specs)}`,
    `--output-dir=${out}`,
    '--json-report=ginkgo.json',
    '--junit-report=junit.xml',
  ];
  const suite = [
    `--kubeconfig=${options.kubeconfig}`,
    `--host=${options.server}`,
    `--kubectl-path=${binaries.kubectl}`,
    '--provider=skeleton',
    `--num-nodes=${options.workers}`,
    '--allowed-not-ready-nodes=0',
    '--node-os-distro=custom',
    '--disable-log-dump',
    '--dump-logs-on-failure=true',
    '--delete-namespace-on-failure=true',
  ];
  const child = spawn(binaries.ginkgo, [...own, binaries['e2e.test'], '--', ...suite], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, KUBECONFIG: options.kubeconfig },
    // Ctrl-C of the terminal must not reach it as well: a second interrupt ends it without a report.
    detached: true,
  });
  // Interrupted, ginkgo ends its specs, cleans up and writes its report.
  const interrupt = (): void => void child.kill('SIGINT');
  signal.addEventListener('abort', interrupt, { once: true });
  const file = createWriteStream(log);
  child.stdout.pipe(file, { end: false });
  child.stderr.pipe(file, { end: false });
  sayFailures(child.stdout, report);
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.once('error', reject);
  child.once('close', resolve);
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', interrupt);
    file.end();
  }
}

/** Says which spec failed as soon as ginkgo does: its name is on the line after the mark. */
function sayFailures(output: NodeJS.ReadableStream, report: (line: string) => void): void {
  let marked = '';
  createInterface({ input: output }).on('line', line => {
    if (marked !== '') report(`  failed ${marked} ${line.trim()}`);
    marked = /^• \[(?:FAILED|PANICKED|TIMEDOUT)\] (\[.*\])/.exec(line)?.[1] ?? '';
  });
}
