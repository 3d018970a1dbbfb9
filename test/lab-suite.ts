import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { explain } from '../src/failure.ts';
import { down } from '../src/lab/lab.ts';
import { labNames } from '../src/lab/state.ts';

/** Test files that share a lab of their own and are not part of `npm test`. */
export interface LabSuite {
  /** Its npm script, and its lab where --lab names no other. */
  readonly name: string;
  /** Of its test files. */
  readonly folder: string;
  /** What it does, for --help. */
  readonly about: string;
  /** The one choice that it offers beside --lab and --keep; the first value is the default. */
  readonly choice?: { readonly option: string; readonly values: readonly string[]; readonly help: string };
  /** Makes the lab; not called where it is up. */
  make(lab: string, how: Making): Promise<unknown>;
  /** Called before the tests on every lab, also on one that was up. */
  prepare?(lab: string, how: Making): Promise<unknown>;
}

export interface Making {
  /** Value of the suite's choice. */
  readonly chosen: string;
  readonly report: (line: string) => void;
  readonly signal: AbortSignal;
}

/**
 * The whole of an npm script: makes the lab, runs the test files one after another, takes the lab down. A lab that was
 * up before is used and stays. Sets the exit code of the process.
 */
export async function runLabSuite(suite: LabSuite): Promise<void> {
  try {
    process.exitCode = await run(suite);
  } catch (error) {
    const { text, exitCode } = explain(error);
    console.error(text);
    process.exitCode = exitCode;
  }
}

async function run(suite: LabSuite): Promise<number> {
  const read = readArguments(suite);
  if (typeof read === 'string') {
    process.stderr.write(`Error: ${read}\n\n${usageOf(suite)}`);
    return 2;
  }
  const { values, positionals } = read;
  if (values.help) {
    process.stdout.write(usageOf(suite));
    return 0;
  }
  const { lab, keep } = values;
  process.env.KUBECONFIG ??= `/tmp/isthmus-${lab}.kubeconfig`;
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  const { signal } = interrupt;
  const report = (line: string): void => console.error(line);
  const how = { chosen: read.chosen, report, signal };
  const files = positionals.length ? positionals : globSync(join(suite.folder, '*.test.ts')).sort();
  const there = labNames().includes(lab);
  try {
    if (!there) await suite.make(lab, how);
    await suite.prepare?.(lab, how);
    const args = ['--test', '--test-concurrency=1', '--test-timeout=900000', ...files];
    const tests = spawn(process.execPath, args, {
      stdio: 'inherit',
      env: { ...process.env, ISTHMUS_TEST_LAB: lab, ISTHMUS_TEST_ATTACH: '1' },
      signal,
    });
    const [code] = (await once(tests, 'exit')) as [number | null];
    return code ?? 1;
  } finally {
    if (!there && !keep) await down({ name: lab, report });
  }
}

/** The command line, or what is wrong with it. */
function readArguments({ name, choice }: LabSuite) {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        lab: { type: 'string', default: name },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        ...(choice && { [choice.option]: { type: 'string' as const, default: choice.values[0] ?? '' } }),
      },
    });
    const given: Readonly<Record<string, unknown>> = values;
    const chosen = choice ? String(given[choice.option]) : '';
    if (choice && !choice.values.includes(chosen))
      return `--${choice.option}: found "${chosen}", expected one of ${choice.values.join(', ')}`;
    return { values, positionals, chosen };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function usageOf({ name, about, choice }: LabSuite): string {
  const options = [
    ['--lab NAME', `name of the lab (default ${name}); one that is up is used, and stays`],
    ['--keep', 'leave the lab up'],
    ...(choice ? [[`--${choice.option} ${choice.values.join('|')}`, choice.help] as const] : []),
  ] as const;
  const width = Math.max(...options.map(([option]) => option.length)) + 3;
  const lines = options.map(([option, help]) => `  ${option.padEnd(width)}${help}`);
  return `usage: npm run ${name} [-- OPTION… FILE…]\n\n${about}\n\n${lines.join('\n')}\n`;
}
