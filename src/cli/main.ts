import { Command, CommanderError } from 'commander';
import { explain } from '../failure.ts';
import { version } from '../version.ts';

/**
 * The `isthmus` command. Every group of commands lives in a file of its own that exports
 * `register(program)`; only the group that is called is loaded, so that `isthmus --help` is instant.
 */
interface CommandGroup {
  register(program: Command): void;
}

interface GroupEntry {
  /** Top-level commands that the file registers, with the line that `--help` shows for each. */
  readonly commands: Readonly<Record<string, string>>;
  load(): Promise<CommandGroup>;
}

const groups: readonly GroupEntry[] = [
  {
    commands: {
      install: 'Install Isthmus in a cluster with its Helm chart',
      upgrade: 'Upgrade Isthmus, or change its Helm values',
      uninstall: 'Remove Isthmus from a cluster and clean its nodes',
    },
    load: () => import('./install.ts'),
  },
  {
    commands: { status: 'Show the components of a cluster, their versions, errors and warnings' },
    load: () => import('./status.ts'),
  },
  {
    commands: { clustermesh: 'Join clusters into one network' },
    load: () => import('./clustermesh.ts'),
  },
  {
    commands: { service: 'Show services as a node balances them' },
    load: () => import('./service.ts'),
  },
  {
    commands: { endpoint: 'Show the pods that nodes connect' },
    load: () => import('./endpoint.ts'),
  },
  {
    commands: { node: 'Show the nodes of all clusters' },
    load: () => import('./node.ts'),
  },
  {
    commands: { bpf: 'Show what the maps of the datapath hold on nodes' },
    load: () => import('./bpf.ts'),
  },
  {
    commands: { sysdump: 'Collect everything about a cluster that a bug report needs' },
    load: () => import('./sysdump.ts'),
  },
  {
    commands: { lab: 'Real Kubernetes clusters on this machine, to try and to test' },
    load: () => import('./lab.ts'),
  },
  {
    commands: { agent: 'Look into the agent of this node (inside an agent pod)' },
    load: () => import('./agent.ts'),
  },
];

/** Options before the command that take a value: their value is not the command's name. */
const valued = new Set(['--context', '--kubeconfig', '-n', '--namespace']);

// A reader that has seen enough (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});
process.exitCode = await run(process.argv.slice(2));

/** Runs one command line and gives the exit code of the process. */
async function run(args: readonly string[]): Promise<number> {
  const program = root();
  const called = calledCommand(args);
  try {
    for (const group of groups) {
      if (called !== undefined && Object.hasOwn(group.commands, called)) {
        (await group.load()).register(program);
        continue;
      }
      for (const [name, summary] of Object.entries(group.commands))
        program.command(name).description(summary);
    }
    await program.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.code === 'commander.excessArguments')
        process.stderr.write(
          '💡 a cluster is chosen with --context, a node with --node, a lab with --name\n',
        );
      return error.exitCode === 0 ? 0 : 2;
    }
    const { text, exitCode } = explain(error);
    process.stderr.write(`${text}\n`);
    return exitCode;
  }
}

function root(): Command {
  const program = new Command('isthmus')
    .description('Isthmus joins Kubernetes clusters into one network.')
    .version(version, '-V, --version', 'print the version of this command')
    .option('--context <name>', 'context of the kubeconfig (also found as isthmus-<name> or kind-<name>)')
    .option('--kubeconfig <file>', 'kubeconfig to use instead of $KUBECONFIG or ~/.kube/config')
    .option('-n, --namespace <name>', 'namespace where Isthmus is installed', 'kube-system')
    .exitOverride()
    .showHelpAfterError('(add --help for the options of this command)')
    .configureHelp({ showGlobalOptions: true });
  return program;
}

/** The first operand, also behind `help`: the top-level command that has to be loaded. */
function calledCommand(args: readonly string[]): string | undefined {
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (valued.has(arg)) i++;
    else if (!arg.startsWith('-') && arg !== 'help') return arg;
  }
  return undefined;
}
