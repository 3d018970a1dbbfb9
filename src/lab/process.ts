import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { Failure } from '../failure.ts';

/** A command that ended with an error: its command line and what it said. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
  readonly exitCode: number | null;
  readonly stderr: string;

  constructor(commandLine: string, exitCode: number | null, stderr: string) {
    super(`${commandLine}: ${stderr.trim() || `exit code ${exitCode}`}`);
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

export interface RunOptions {
  /** Written to the command's standard input, which is closed after it. */
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly signal?: AbortSignal;
}

/** Runs a command to its end and gives what it printed. Throws CommandFailed. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: options.env ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', reject);
    child.on('close', code => {
      if (code === 0) resolve(Buffer.concat(out).toString());
      else {
        reject(
          new CommandFailed(
            [command, ...args].join(' ').slice(0, 300),
            code,
            Buffer.concat(err.length > 0 ? err : out).toString(),
          ),
        );
      }
    });
    // A command that ends without reading its input is no failure of ours.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
  });
}

/** Starts a process that outlives this one, with its output appended to a file. Gives its process ID. */
export async function startDetached(
  command: string,
  args: readonly string[],
  options: { readonly log: string; readonly env?: NodeJS.ProcessEnv },
): Promise<number> {
  const log = openSync(options.log, 'a');
  try {
    const child = spawn(command, args, {
      stdio: ['ignore', log, log],
      detached: true,
      cwd: '/',
      env: options.env ?? process.env,
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    child.unref();
    return child.pid!;
  } finally {
    closeSync(log);
  }
}

/** A process as /proc shows it. */
export interface ProcessEntry {
  readonly pid: number;
  /** First 15 characters of the executable's name. */
  readonly command: string;
  readonly arguments: readonly string[];
}

/** What /proc says of a process, or undefined when it has ended. */
export function processEntry(pid: number): ProcessEntry | undefined {
  try {
    return {
      pid,
      command: readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd(),
      arguments: readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1),
    };
  } catch {
    return undefined;
  }
}

/** All process IDs of this PID namespace. */
export function processIds(): number[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number);
}

/** How much longer than usual a lab waits for anything: for machines that are slow, or emulated. */
export function patience(setting = process.env.ISTHMUS_LAB_PATIENCE): number {
  if (setting === undefined || setting === '') return 1;
  const factor = Number(setting);
  if (factor >= 1 && factor <= 100) return factor;
  throw new Failure(`ISTHMUS_LAB_PATIENCE: found ${setting}, expected a number from 1 to 100`);
}

/**
 * Calls `check` every `interval` ms until it gives a value, or throws what `late` says after `timeout` ms, times
 * `patience()`; `late` is told the seconds.
 */
export async function waitFor<T>(
  check: () => T | undefined | Promise<T | undefined>,
  options: {
    readonly timeout: number;
    readonly interval?: number;
    readonly late: (seconds: number) => Error;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<T> {
  const limit = options.timeout * patience();
  const end = performance.now() + limit;
  for (;;) {
    options.signal?.throwIfAborted();
    const value = await check();
    if (value !== undefined) return value;
    if (performance.now() > end) throw options.late(Math.round(limit / 1000));
    await new Promise(resolve => setTimeout(resolve, options.interval ?? 50));
  }
}
