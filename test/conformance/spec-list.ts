import { run } from '../../src/lab/process.ts';
import type { IPFamily } from './cluster-shape.ts';
import { leftOutWith, type SpecSet } from './sets.ts';

/** The specs of a set that run, and those that do not, by reason. */
export interface Selection {
  readonly specs: readonly string[];
  readonly leftOut: ReadonlyMap<string, readonly string[]>;
}

/** The full texts of all specs that the suite has. */
export async function listSpecs(suite: string): Promise<string[]> {
  // Each line is indented: the file and line of the spec, a colon, its text.
  const lines = (await run(suite, ['--list-tests'])).split('\n');
  return lines.flatMap(line => /^ +\S+\.go:\d+: (.+)$/.exec(line)?.[1] ?? []);
}

export interface Narrowing {
  readonly family: IPFamily;
  readonly focus?: string | undefined;
  readonly skip?: string | undefined;
}

/** What of `all` a set selects on a cluster of this family, narrowed by the user's `focus` and `skip`. */
export function select(set: SpecSet, all: readonly string[], { family, focus, skip }: Narrowing): Selection {
  const wanted = all.filter(
    spec =>
      matches(set.focus, spec) &&
      (focus === undefined || matches(focus, spec)) &&
      !(skip !== undefined && matches(skip, spec)) &&
      !set.elsewhere.some(pattern => matches(pattern, spec)),
  );
  const reasonsToLeaveOut = [...set.leftOut, ...leftOutWith(family)];
  const reasons = Map.groupBy(
    wanted,
    spec => reasonsToLeaveOut.find(({ pattern }) => matches(pattern, spec))?.reason,
  );
  const specs = reasons.get(undefined) ?? [];
  const leftOut = new Map([...reasons].flatMap(([why, of]) => (why === undefined ? [] : [[why, of]])));
  return { specs: [...specs].sort(), leftOut };
}

/** The regular expression by which ginkgo finds exactly these specs. */
export function focusOn(specs: readonly string[]): string {
  return `(${specs.map(spec => spec.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|')})$`;
}

function matches(pattern: string, spec: string): boolean {
  return new RegExp(pattern).test(spec);
}
