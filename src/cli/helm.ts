import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { packageRoot } from '../package-root.ts';
import type { ClusterChoice } from './kubeconfig.ts';

/** Where the chart is, in a clone as well as in the npm package. */
export const chartFolder: string = join(packageRoot, 'deploy', 'charts', 'isthmus');

/** Name of our Helm release, and of the chart. */
export const releaseName = 'isthmus';

/** Values for the chart, in the order in which Helm applies them: files, then documents, then --set. */
export interface ChartValues {
  readonly files?: readonly string[] | undefined;
  /** A values document; what is in it beats the files. */
  readonly document?: Readonly<Record<string, unknown>> | undefined;
  /** `key=value` as for Helm's --set. */
  readonly set?: readonly string[] | undefined;
}

export interface HelmRun {
  readonly cluster: ClusterChoice;
  readonly values?: ChartValues | undefined;
  /** Takes what Helm's executable needs before it can start, if it has to be fetched. */
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs Helm against a cluster and gives its standard output. A refusal becomes a Failure in the terms of our
 * values (`cluster.id: …`), not of Helm's engine.
 */
export async function helm(args: readonly string[], run: HelmRun): Promise<string> {
  const { cluster, values = {}, signal } = run;
  const all = [...args, '--namespace', cluster.namespace, '--kube-context', cluster.context];
  if (cluster.kubeconfig !== undefined) all.push('--kubeconfig', cluster.kubeconfig);
  for (const file of values.files ?? []) all.push('--values', file);
  // A document on standard input needs no temporary file, and no quoting.
  if (values.document !== undefined) all.push('--values', '-');
  for (const each of values.set ?? []) all.push('--set', each);
  const stdin = values.document === undefined ? '' : JSON.stringify(values.document);
  const { code, stdout, stderr } = await execute(await helmBinary(run), all, stdin, signal);
  if (code === 0) return stdout;
  throw new Failure(readRefusal(stderr), { hint: hintFor(stderr) });
}

/** The values that the installed release was given, without the chart's defaults. */
export async function installedValues(run: HelmRun): Promise<Readonly<Record<string, unknown>>> {
  const text = await helm(['get', 'values', releaseName, '--output', 'json'], { ...run, values: {} });
  return z.record(z.string(), z.unknown()).nullable().parse(JSON.parse(text)) ?? {};
}

/** Helm's error in one sentence. Schema errors name values as users write them: a.b.c, not /a/b/c. */
export function readRefusal(stderr: string): string {
  const schema = [...stderr.matchAll(/^ *- at '([^']*)': (.*)$/gm)]
    // Of "none of these fits" and its branches the branches say more.
    .filter(([, , reason]) => !/^'anyOf' failed/.test(reason!))
    .map(([, path, reason]) => {
      const value = path!.slice(1).replaceAll('/', '.');
      const unknown = /^additional propert(?:y|ies) (.*) not allowed$/.exec(reason!)?.[1];
      if (unknown === undefined) return `${value}: ${reason}`;
      const names = unknown.replaceAll("'", '').split(', ');
      return names
        .map(name => `${value === '' ? '' : `${value}.`}${name}: there is no such value`)
        .join('; ');
    });
  if (schema.length > 0) return `Helm refuses the values: ${schema.join('; ')}`;
  const rendering = /execution error at \([^)]*\): (.*)/.exec(stderr)?.[1];
  if (rendering !== undefined) return rendering;
  const lines = stderr
    .split('\n')
    .filter(line => line.trim() !== '' && !/^(WARNING|W\d{4}|I\d{4}|coalesce|Use --debug)/.test(line));
  return `Helm: ${(lines.join(' ') || 'failed without a word').replace(/^Error: /, '')}`;
}

function hintFor(stderr: string): string | undefined {
  if (/cannot re-use a name/.test(stderr)) return 'Isthmus is installed there already: use `isthmus upgrade`';
  if (/has no deployed releases|release: not found/.test(stderr))
    return 'Isthmus is not installed there: use `isthmus install`';
  if (/another operation .* is in progress/.test(stderr))
    return 'an earlier install or upgrade was interrupted: `helm rollback isthmus -n kube-system`, or `isthmus uninstall`';
  return undefined;
}

/** Helm from $PATH, else of the pinned version from the cache. */
async function helmBinary(run: Pick<HelmRun, 'report' | 'signal'>): Promise<string> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, 'helm');
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  const { ensureBinaries } = await import('../lab/binaries.ts');
  const signal = run.signal === undefined ? {} : { signal: run.signal };
  return (await ensureBinaries(['helm'], { report: run.report, ...signal })).helm;
}

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function execute(
  path: string,
  args: readonly string[],
  stdin: string,
  signal: AbortSignal | undefined,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, args, { stdio: ['pipe', 'pipe', 'pipe'], ...(signal ? { signal } : {}) });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', reject);
    child.on('close', (code, killed) => {
      const error = Buffer.concat(stderr).toString('utf8');
      resolve({
        code: code ?? 1,
        stdout: Buffer.concat(stdout).toString('utf8'),
        stderr: killed ? `helm was ended by ${killed}` : error,
      });
    });
    // Helm may fail before it reads: what it says on stderr is the reason, not the broken pipe.
    child.stdin.on('error', () => {});
    child.stdin.end(stdin);
  });
}
