import { parseArgs } from 'node:util';
import { Failure } from '../../src/failure.ts';
import type { IPFamily } from './cluster-shape.ts';
import { type SetName, setNames, sets } from './sets.ts';

export interface ConformanceOptions {
  readonly sets: readonly SetName[];
  /** Runs only those specs of the sets whose text this regular expression matches. */
  readonly focus: string | undefined;
  /** Leaves out further specs. */
  readonly skip: string | undefined;
  readonly lab: string;
  /** Leave the lab up. */
  readonly keep: boolean;
  /** Specs that run at the same time; those marked [Serial] run alone all the same. */
  readonly procs: number;
  readonly family: IPFamily;
  /** Helm values, as for --set of `isthmus install`. */
  readonly values: readonly string[];
  /** Folder for reports and logs, one below it for each set. */
  readonly out: string;
  /** Print the specs and run none. */
  readonly list: boolean;
  /** Limit of one set, as Go writes durations. */
  readonly timeout: string;
}

export const usage = `Usage: npm run conformance -- [SET…] [options]

Runs Kubernetes' own end-to-end tests of the network against a lab with Isthmus.

Sets (default: conformance extended):
${setNames.map(name => `  ${name.padEnd(14)}${sets[name].description}`).join('\n')}

Options:
  --focus REGEX     only those specs of the sets that match
  --skip REGEX      leave out further specs
  --lab NAME        name of the lab (default: conformance); one that is up is used as it is
  --keep            leave the lab up
  --procs N         specs at a time (default: 3)
  --ip-family F     ipv4, ipv6 or dual (default: ipv4)
  --set KEY=VALUE   a Helm value, also several times: --set socketLB.hostNamespaceOnly=true
  --out FOLDER      reports and logs (default: build/conformance)
  --timeout T       limit of one set (default: 3h)
  --list            print the specs and run none

Exit code: 0 when no spec failed, 1 when one failed, 2 when a set did not run.
`;

/** Reads the command line. Throws Failure that says what was found and what was expected. */
export function parseOptions(args: readonly string[]): ConformanceOptions | 'help' {
  const { values, positionals } = read(args);
  if (values.help) return 'help';
  const wanted = positionals.length === 0 ? ['conformance', 'extended'] : positionals;
  return {
    sets: wanted.map(name => oneOf('set', name, setNames)),
    focus: checkedPattern('--focus', values.focus),
    skip: checkedPattern('--skip', values.skip),
    lab: values.lab,
    keep: values.keep,
    procs: checkedProcs(values.procs),
    family: oneOf('--ip-family', values['ip-family'], ['ipv4', 'ipv6', 'dual']),
    values: values.set,
    out: values.out,
    list: values.list,
    timeout: values.timeout,
  };
}

function read(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        focus: { type: 'string' },
        skip: { type: 'string' },
        lab: { type: 'string', default: 'conformance' },
        keep: { type: 'boolean', default: false },
        procs: { type: 'string', default: '3' },
        'ip-family': { type: 'string', default: 'ipv4' },
        set: { type: 'string', multiple: true, default: [] },
        out: { type: 'string', default: 'build/conformance' },
        timeout: { type: 'string', default: '3h' },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new Failure(error instanceof Error ? error.message : String(error), { exitCode: 2 });
  }
}

function oneOf<T extends string>(what: string, found: string, expected: readonly T[]): T {
  const known = expected.find(each => each === found);
  if (known !== undefined) return known;
  throw new Failure(`${what}: found "${found}", expected one of ${expected.join(', ')}`, { exitCode: 2 });
}

function checkedPattern(flag: string, pattern: string | undefined): string | undefined {
  if (pattern === undefined) return undefined;
  try {
    new RegExp(pattern);
    return pattern;
  } catch {
    throw new Failure(`${flag}: found "${pattern}", expected a regular expression`, { exitCode: 2 });
  }
}

function checkedProcs(text: string): number {
  const procs = Number(text);
  if (Number.isInteger(procs) && procs >= 1 && procs <= 50) return procs;
  throw new Failure(`--procs: found "${text}", expected a number from 1 to 50`, { exitCode: 2 });
}
