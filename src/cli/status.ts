import { setTimeout as pause } from 'node:timers/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { Failure } from '../failure.ts';
import { type ClusterStatus, clusterStatus, isWell } from './cluster-status.ts';
import { type ClusterChoice, chooseCluster, clientOf } from './kubeconfig.ts';
import { isComplete } from './rollout.ts';
import { statusText } from './status-text.ts';

export interface WaitOptions {
  readonly cluster: ClusterChoice;
  /** Milliseconds after which to give up. */
  readonly duration: number;
  /** Takes a line whenever what is waited for has changed. */
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Waits until every component of Isthmus and every node is ready. Resolves to the last status seen, which is not
 * well when the time was over first (see `isWell`).
 */
export async function waitForStatus({
  cluster,
  duration,
  report,
  signal,
}: WaitOptions): Promise<ClusterStatus> {
  const end = performance.now() + duration;
  const client = clientOf(cluster);
  let said = '';
  try {
    for (;;) {
      const status = await clusterStatus(client, cluster);
      if (isWell(status) || performance.now() > end) return status;
      const waiting = waitingFor(status);
      if (waiting !== said) report(`⌛ Waiting for ${waiting}`);
      said = waiting;
      await pause(500, undefined, { signal });
    }
  } finally {
    client.close();
  }
}

export function register(program: Command): void {
  program
    .command('status')
    .description('Show the components of a cluster, their versions, errors and warnings')
    .option('--wait', 'wait until every component and every node is ready')
    .addOption(waitDurationOption())
    .addOption(
      new Option('-o, --output <format>', 'how to print it').choices(['summary', 'json']).default('summary'),
    )
    .action(
      async (
        flags: { wait?: boolean; waitDuration: number; output: 'summary' | 'json' },
        command: Command,
      ) => {
        const cluster = chooseCluster(command);
        // Progress is not part of the result.
        const report = (line: string) => process.stderr.write(`${line}\n`);
        const status = flags.wait
          ? await waitForStatus({ cluster, duration: flags.waitDuration, report })
          : await onceStatus(cluster);
        process.stdout.write(
          flags.output === 'json' ? `${JSON.stringify(status, null, 2)}\n` : statusText(status),
        );
        if (isWell(status)) return;
        if (flags.wait)
          throw new Failure(`not ready after ${flags.waitDuration / 1000} s: ${waitingFor(status)}`);
        process.exitCode = 1;
      },
    );
}

/** `--wait-duration`, as several commands take it. */
export function waitDurationOption(): Option {
  return new Option('--wait-duration <time>', 'how long to wait, such as 90s or 5m')
    .default(300_000, '5m')
    .argParser(parseDuration);
}

/** Milliseconds of `90s`, `5m`, `1h`, `500ms`, or several after one another. */
export function parseDuration(text: string): number {
  const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text))
    throw new InvalidArgumentError('expected a time such as 90s or 5m.');
  return [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)].reduce(
    (sum, [, amount, unit]) => sum + Number(amount) * units[unit as keyof typeof units],
    0,
  );
}

async function onceStatus(cluster: ClusterChoice): Promise<ClusterStatus> {
  const client = clientOf(cluster);
  try {
    return await clusterStatus(client, cluster);
  } finally {
    client.close();
  }
}

function waitingFor(status: ClusterStatus): string {
  const { components, nodes, errors } = status;
  const parts = components
    .filter(each => each.enabled && !isComplete(each))
    .map(each => `${each.kind} ${each.object} (${Math.min(each.ready, each.updated)} of ${each.desired})`);
  if (nodes.ready < nodes.total) parts.push(`nodes (${nodes.ready} of ${nodes.total})`);
  const first = errors[0];
  if (first) parts.push(`${first.object}: ${first.message}`);
  return parts.join(', ');
}
