/** The two ends of a measurement: `probe.c` started somewhere, pinned to a core, and what it found. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { run } from '../../src/lab/process.ts';

/** Somewhere a command can be run: the words before it, and where the probe is there. */
export interface Place {
  readonly prefix: readonly string[];
  readonly probe: string;
}

/** Compiles the probe: static, so that it runs alike in a pod and in a bare network namespace. */
export function buildProbe(): string {
  const path = join(mkdtempSync(join(tmpdir(), 'isthmus-bench-')), 'probe');
  const source = join(import.meta.dirname, 'probe.c');
  execFileSync('gcc', ['-O2', '-static', '-pthread', '-o', path, source]);
  return path;
}

/** TCP ports, by the core that the server is pinned to. */
export interface Ports {
  readonly echo: Readonly<Record<'one' | 'two', number>>;
  readonly sink: Readonly<Record<'two', number>>;
}

/** What the servers listen on. */
export const ports: Ports = { echo: { one: 7000, two: 7001 }, sink: { two: 7002 } };

/** Where the servers are asked: at their own ports, or at those of a service. */
export interface Target {
  readonly address: string;
  readonly ports: Ports;
}

export interface Measure {
  readonly name: string;
  readonly unit: string;
  /** Client and server on one core, or each on its own. */
  readonly cores: 'one' | 'two';
  readonly goal: string;
  measure(client: Place, to: Target, seconds: number): Promise<number>;
}

const gbit = z.object({ gbit: z.number() });
const roundTrip = z.object({ p50: z.number() });
const connections = z.object({ perSecond: z.number(), ok: z.number(), failed: z.number() });

async function probe(client: Place, ...args: readonly (string | number)[]): Promise<unknown> {
  const [command, ...words] = [...client.prefix, ...pinned(0), client.probe, ...args.map(String)];
  return JSON.parse(await run(command!, words));
}

const roundTrips = (cores: Measure['cores']): Measure => ({
  name: 'one-byte round trip p50',
  unit: 'µs',
  cores,
  goal: '≤ 1.15',
  measure: async (client, to) =>
    roundTrip.parse(await probe(client, 'rtt', to.address, to.ports.echo[cores], 20_000)).p50,
});

export const throughput: Measure = {
  name: 'throughput, one stream',
  unit: 'Gbit/s',
  cores: 'two',
  goal: '≥ 0.95',
  measure: async (client, to, seconds) =>
    gbit.parse(await probe(client, 'send', to.address, to.ports.sink.two, seconds)).gbit,
};

const newConnections: Measure = {
  name: 'new connections',
  unit: '/s',
  cores: 'two',
  goal: '≥ 0.95',
  measure: async (client, to, seconds) => {
    const found = connections.parse(
      await probe(client, 'connect', to.address, to.ports.echo.two, seconds, 4),
    );
    if (found.failed * 100 > found.ok)
      throw new Error(`${to.address}: ${found.failed} connections failed, ${found.ok} did not`);
    return found.perSecond;
  },
};

export const measures: readonly Measure[] = [
  throughput,
  roundTrips('one'),
  roundTrips('two'),
  newConnections,
];

const pinned = (core: number): string[] => ['taskset', '-c', String(core)];

/** Servers of all kinds in a place, until disposed. */
export function startServers(place: Place): AsyncDisposable {
  const children: ChildProcess[] = [];
  const serve = (what: string, port: number, core: number): void => {
    const [command, ...words] = [...place.prefix, ...pinned(core), place.probe, what, String(port)];
    children.push(spawn(command!, words, { stdio: ['pipe', 'ignore', 'inherit'] }));
  };
  serve('serve', ports.echo.one, 0);
  serve('serve', ports.echo.two, 1);
  serve('sink', ports.sink.two, 1);
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(
        children.map(async child => {
          if (child.exitCode !== null || child.signalCode !== null) return;
          const closed = once(child, 'close');
          // A server ends with its input, in a pod too.
          child.stdin?.end();
          await closed;
        }),
      );
    },
  };
}

/** Resolves when a byte comes back from there. */
export async function awaitServer(client: Place, to: Target, limit = 60_000): Promise<void> {
  const until = performance.now() + limit;
  for (;;) {
    try {
      await probe(client, 'rtt', to.address, to.ports.echo.two, 1);
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
    }
  }
}
