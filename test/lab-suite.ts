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
  /** What it offers beside --lab and --keep; the first value of each is the default. */
  readonly choices?: readonly Choice[];
  /** Makes the lab; not called where it is up. */
  make(lab: string, how: Making): Promise<unknown>;
  /** Called before the tests on every lab, also on one that was up. */
  prepare?(lab: string, how: Making): Promise<unknown>;
}

export interface Choice {
  readonly option: string;
  readonly values: readonly string[];
  readonly help: string;
}

export interface Making {
  /** Values of the suite's choices, by their options. */
  readonly chosen: Readonly<Record<string, string>>;
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
function readArguments({ name, choices = [] }: LabSuite) {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        lab: { type: 'string', default: name },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        ...Object.fromEntries(
          choices.map(({ option, values }) => [
            option,
            { type: 'string' as const, default: values[0] ?? '' },
          ]),
        ),
      },
    });
    const given: Readonly<Record<string, unknown>> = values;
    const chosen: Record<string, string> = {};
    for (const { option, values: known } of choices) {
      const value = String(given[option]);
      if (!known.includes(value)) return `--${option}: found "${value}", expected one of ${known.join(', ')}`;
      chosen[option] = value;
    }
    return { values, positionals, chosen };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function usageOf({ name, about, choices = [] }: LabSuite): string {
  const options = [
    ['--lab NAME', `name of the lab (default ${name}); one that is up is used, and stays`],
    ['--keep', 'leave the lab up'],
    ...choices.map(({ option, values, help }) => [`--${option} ${values.join('|')}`, help] as const),
  ] as const;
  const width = Math.max(...options.map(([option]) => option.length)) + 3;
  const lines = options.map(([option, help]) => `  ${option.padEnd(width)}${help}`);
  return `usage: npm run ${name} [-- OPTION… FILE…]\n\n${about}\n\n${lines.join('\n')}\n`;
}
