import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { faultSpec } from './fault-spec.ts';
import { stateDirectory, stateRoot } from './paths.ts';
import { labPlan } from './plan.ts';

/**
 * What is known of a lab. `phase` is written before the work it names begins: a lab found in `up` or
 * `down` that nobody works on was left by a crash.
 */
const labState = z.object({
  version: z.literal(1),
  phase: z.enum(['up', 'ready', 'down']),
  plan: labPlan,
  /** The kubeconfig file that the contexts were written to. */
  kubeconfig: z.string().optional(),
  /** Faults in force, oldest first. */
  faults: z.array(faultSpec),
});

export type LabState = z.infer<typeof labState>;

/** The state of a lab, or undefined when there is none. */
export function readState(lab: string): LabState | undefined {
  const file = join(stateDirectory(lab), 'state.json');
  if (!existsSync(file)) return undefined;
  const parsed = labState.safeParse(JSON.parse(readFileSync(file, 'utf8')));
  if (!parsed.success) {
    throw new Failure(`${file}: not the state of a lab of this version`, {
      hint: `isthmus lab down --name ${lab} removes the lab all the same`,
    });
  }
  return parsed.data;
}

export function writeState(state: LabState): void {
  const folder = stateDirectory(state.plan.name);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = join(folder, 'state.json');
  writeFileSync(`${file}.new`, `${JSON.stringify(state, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

export function removeState(lab: string): void {
  rmSync(stateDirectory(lab), { recursive: true, force: true });
}

/** Names of all labs that left a state. */
export function labNames(): string[] {
  if (!existsSync(stateRoot)) return [];
  return readdirSync(stateRoot, { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(entry => entry.name)
    .sort();
}

/** The address blocks of all labs but this one: also of those that have no routes yet. */
export function blocksOfOtherLabs(lab: string): string[] {
  return labNames()
    .filter(name => name !== lab)
    .flatMap(name => readState(name)?.plan.block ?? []);
}

/**
 * Takes the right to choose addresses for a lab, which only one command on this machine may have at a time:
 * two labs that come up together would choose the same. Waits for its turn, ten seconds at most.
 */
export async function lockPlanning(): Promise<Disposable> {
  for (const until = performance.now() + 10_000; ; ) {
    try {
      return lockLab('.planning');
    } catch (error) {
      if (!(error instanceof Failure) || performance.now() > until) throw error;
    }
    await pause(20);
  }
}

/**
 * Takes the right to change a lab. A lock whose owner has ended is taken over. Throws Failure when another
 * command works on the lab.
 */
export function lockLab(lab: string): Disposable {
  mkdirSync(stateRoot, { recursive: true, mode: 0o755 });
  const file = join(stateRoot, `${lab}.lock`);
  const mine = `${process.pid} ${startTime(process.pid)}`;
  for (let attempt = 0; ; attempt++) {
    try {
      writeFileSync(file, mine, { flag: 'wx' });
      break;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
    const [pid, started] = readLock(file);
    if (pid !== undefined && startTime(Number(pid)) === started) {
      throw new Failure(`another command works on lab ${lab} (process ${pid})`, {
        hint: 'wait for it, or end it',
      });
    }
    if (attempt > 10) throw new Failure(`cannot take the lock ${file}`);
    rmSync(file, { force: true });
  }
  return { [Symbol.dispose]: () => rmSync(file, { force: true }) };
}

function readLock(file: string): [string | undefined, string | undefined] {
  try {
    const [pid, started] = readFileSync(file, 'utf8').split(' ');
    return [pid, started];
  } catch {
    return [undefined, undefined];
  }
}

/** When a process started (clock ticks since boot): tells it from a later one with the same number. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
