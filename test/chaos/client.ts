/** Clients that see what a fault does to requests: `load.c` in a pod. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { LabCluster } from '../../src/lab/open-lab.ts';

/** Milliseconds a request may take: a usual limit of clients, and the shortest that says anything on a busy machine. */
export const PATIENCE = 1000;
/** The same where packets are lost: TCP says a lost first word again after a second. */
export const LOSSY_PATIENCE = 3000;

export interface Request {
  /** Milliseconds by the machine's monotonic clock, as {@link monotonic} has them. */
  readonly begin: number;
  readonly milliseconds: number;
  readonly outcome: 'ok' | 'refused' | 'timeout' | 'error';
  /** Who answered; '-' for nobody. */
  readonly by: string;
}

export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Compiles the client: static, so that it runs in any pod. */
export function buildLoad(): Buffer {
  const path = join(mkdtempSync(join(tmpdir(), 'isthmus-chaos-')), 'load');
  execFileSync('gcc', ['-O2', '-static', '-o', path, join(import.meta.dirname, 'load.c')]);
  return readFileSync(path);
}

/** Requests of a pod at a steady rate, until disposed. */
export class Client implements AsyncDisposable {
  readonly requests: Request[] = [];
  /** Times in which this client itself did not get the processor, in milliseconds. */
  readonly stalls: { readonly begin: number; readonly milliseconds: number }[] = [];
  /** Milliseconds that each of them may take. */
  readonly patience: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  /** `command` starts load.c somewhere. */
  constructor(command: readonly string[], to: string, port: number, perSecond: number, patience: number) {
    this.patience = patience;
    const [file, ...args] = [...command, to, String(port), String(perSecond), String(patience)];
    this.#child = spawn(file!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: this.#child.stdout! });
    lines.on('line', line => {
      const [begin, milliseconds, outcome, by = '-'] = line.split(' ');
      const times = { begin: Number(begin), milliseconds: Number(milliseconds) };
      if (outcome === 'stalled') this.stalls.push(times);
      else this.requests.push({ ...times, outcome: outcome as Request['outcome'], by });
    });
    this.#ended = new Promise(resolve => this.#child.once('close', () => resolve()));
  }

  /** Requests that began since then. */
  since(time: number): Request[] {
    return this.requests.filter(each => each.begin >= time);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin?.end();
    await this.#ended;
  }
}

/** Where {@link putLoad} puts it. */
export const loadInPod = '/tmp/load';

/** Puts the client into a pod. */
export async function putLoad(cluster: LabCluster, exec: readonly string[], load: Buffer): Promise<void> {
  const [file, ...args] = [...exec, 'sh', '-c', `cat >${loadInPod} && chmod +x ${loadInPod}`];
  const child = spawn(file!, args, { stdio: ['pipe', 'inherit', 'inherit'] });
  child.stdin.end(load);
  const code = await new Promise(resolve => child.once('close', resolve));
  if (code !== 0)
    throw new Error(`the client could not be put into a pod of ${cluster.name}: exit code ${code}`);
}

/** What a fault cost. */
export interface Cost {
  readonly requests: number;
  readonly failed: number;
  /** Of these, how many did not merely wait too long, as some do on a busy machine. */
  readonly refused: number;
  /** Seconds from the fault to the end of the last quarter of a second in which one of ten requests failed; 0: none. */
  readonly until: number;
  /** Seconds for which the client itself did not get the processor: what it says of them is of the machine. */
  readonly stalled: number;
}

const WINDOW = 250;

/** On a busy machine single requests fail on their own: what is broken takes its share of all requests. */
export function costOf(client: Pick<Client, 'since' | 'stalls'>, from: number): Cost {
  const requests = client.since(from);
  const failed = requests.filter(each => each.outcome !== 'ok');
  const windowOf = ({ begin }: Request): number => Math.floor((begin - from) / WINDOW);
  const all = Map.groupBy(requests, windowOf);
  const bad = Map.groupBy(failed, windowOf);
  const broken = [...bad].filter(([window, { length }]) => length * 10 >= all.get(window)!.length);
  const last = Math.max(-1, ...broken.map(([window]) => window));
  const refused = failed.filter(each => each.outcome !== 'timeout').length;
  const stalls = client.stalls.filter(each => each.begin >= from);
  return {
    requests: requests.length,
    failed: failed.length,
    refused,
    until: ((last + 1) * WINDOW) / 1000,
    stalled: stalls.reduce((sum, each) => sum + each.milliseconds, 0) / 1000,
  };
}
