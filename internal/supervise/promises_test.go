package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// promises are what supervision must do, each with the tests that hold it.
var promises = []struct {
	promise string
	tests   string // "folder: TestName" or "file.py: test_name", from the root of the project, line by line
}{
	// What every supervisor must do.
	{"readiness is a message over an inherited descriptor that names versions and applications, never a time; a boot timeout", `
		internal/supervise: TestAWorkerThatIsReadyIsGivenToThePool
		internal/supervise: TestABootThatSaysNothingEndsAtItsTimeout
		internal/link: TestTheHandshakeGivesReady
		internal/link: TestAWorkerOfAnotherProtocolIsRefusedWithBothVersions`},
	{"exponential back-off with jitter, forgotten by serving; failed boots are counted by themselves", `
		internal/supervise: TestThePauseGrowsToItsMostAndIsNeverTheSameForAll
		internal/supervise: TestFailuresAreForgottenByServing
		internal/supervise: TestFailedBootsAndDeathsSoonAfterReadyAreCountedEachByItself
		internal/supervise: TestAWorkerThatDiesAgainAndAgainIsPutOff
		internal/supervise: TestAWorkerThatDiesAfterServingStartsAgainAtOnce
		internal/supervise: TestAWorkerThatExitsBeforeItIsReadyIsAFailedBoot`},
	{"who fails too often is frozen with its last lines; all others and the server go on, old processes are kept", `
		internal/supervise: TestAWorkerThatFailsTooOftenIsFrozenWithItsOutput
		internal/supervise: TestAFrozenSlotLeavesTheOthersServing
		internal/supervise: TestAWorkerWhoseSuccessorCannotBootGoesOn
		cmd/guado: TestAFrozenWorkerIsShownWithItsLastLines
		test/chaos: TestApplicationsThatMisbehaveLeaveTheOthersServing`},
	{"SIGTERM, a time, the stacks of all threads, SIGKILL to the process group", `
		test/chaos: TestAWorkerThatDoesNotEndPrintsItsStacksAndIsKilled
		internal/supervise: TestAWorkerThatDoesNotHearIsKilledAfterItsTime
		internal/supervise: TestWhatAWorkerLeavesBehindEndsWithIt`},
	{"the death of the host ends a worker in two ways: by the kernel, whichever thread ends, and by the end of its socket", `
		internal/supervise: TestWorkersEndWithTheirHost
		internal/child: TestAHostThatIsKilledWithItsGuardLeavesNoChildBehind
		internal/child: TestAChildOutlivesTheThreadThatAskedForIt
		internal/child: TestAChildOfAnotherAccountDiesWithItsHost
		python/tests/test_asgi_tasks.py: test_the_worker_ends_when_the_host_is_gone`},
	{"orphans are reaped, and no known child's exit is stolen", `
		internal/child: TestOrphansAreReapedAndTheExitsOfOurOwnAreNot
		internal/child: TestASignalAfterTheEndDoesNotHitAnotherProcessThatGotTheID`},
	{"replacement after requests, age and memory, each with jitter or samples; more than the hard limit kills; bounded by drain_max", `
		internal/supervise: TestAWorkerThatHasServedItsTimeIsReplaced
		internal/supervise: TestEachWorkerDrawsItsOwnShareOfTheJitter
		internal/supervise: TestAWorkerOverItsHardMemoryLimitIsKilled
		test/chaos: TestAWorkerIsReplacedAfterItsRequestsWithoutALostOne
		test/chaos: TestAWorkerThatLeaksIsReplacedWithoutALostRequest
		.: TestAWorkerThatCannotBeInterruptedIsEndedAfterDrainMax`},
	{"one replacement at a time, the new one before the old one, never fewer, the newest first", `
		internal/supervise: TestOneWorkerOfAGroupIsReplacedAtATime
		internal/supervise: TestAReplacedWorkerServesUntilItsSuccessorDoes
		internal/supervise: TestTheNewestWorkerIsReplacedFirst
		internal/supervise: TestAStopEndsAReplacementToo`},
	{"hangs are found: a heartbeat of the process, of Python, of the loop, and of each request; stacks before the kill", `
		internal/supervise: TestAStoppedWorkerIsKilledAndStartedAgain
		internal/supervise: TestAHostThatStoodStillDoesNotBlameItsWorkers
		test/chaos: TestAWorkerThatKeepsTheGILForEverIsReplaced
		test/chaos: TestAWorkerWhoseLoopIsBlockedForEverIsReplaced
		test/chaos: TestASlowRequestIsToldWithItsStackAndGoesOn
		test/chaos: TestGILPressureAloneNeverKills
		.: TestAtItsDeadlineARequestIsInterruptedAndItsWorkerReplaced`},
	{"output by line, of bounded length, prefixed, limited, counted, kept", `
		internal/supervise: TestOutputPassesByWholeLinesOfBoundedLength
		internal/supervise: TestAFloodOfLinesIsSuppressedAndCounted
		internal/supervise: TestALineOfJSONIsPassedOnAsItIs
		cmd/guado: TestAProgramIsListedStoppedStartedAndRestarted`},
	{"a kill of the kernel for want of memory is named, and counts", `
		internal/child: TestAKillOfTheKernelForWantOfMemoryIsNamedAndAnotherIsNot
		internal/child: TestAKillIsBlamedOnWantOfMemoryOnceForEachThatTheKernelCounts
		test/chaos: TestAWorkerThatTheKernelKillsForWantOfMemoryIsNamedAndReplaced`},
	{"a bounded queue, and 503 with Retry-After behind it", `
		internal/pool: TestAFullQueueRefusesAtOnceAndSaysWhenToComeBack
		internal/pool: TestWhoWaitsTooLongIsRefusedAlsoWhenItWasSentAhead`},

	// What a person would miss.
	{"account, umask, limits, oom_score_adj", `
		internal/child: TestTheFirstStepSetsWhatOnlyTheProcessItselfCan
		internal/program: TestAProgramRunsAsItsUserWithItsLimits
		test/chaos: TestAWorkerRunsUnderTheAccountAndLimitsThatItsGroupNames`},
	{"an operator may cordon, drain, kill, restart, look into a worker, and have more or fewer", `
		cmd/guado: TestOneWorkerIsLookedIntoAndTakenOutAndReplaced
		cmd/guado: TestWorkersAreListedAndRestarted
		cmd/guado: TestTheNumberOfWorkersIsAnotherOneUntilTheNextReload
		internal/supervise: TestAWorkerThatAnOperatorKillsIsFollowedByAnother
		internal/supervise: TestACordonedWorkerIsLeftInPeaceAndComesBack
		internal/supervise: TestAHaltedWorkerStaysAwayUntilItIsWanted`},
	{"a tree of cgroups that was delegated is divided, and ends with the host", `
		internal/child: TestADelegatedCgroupIsDividedAndKilledAsAWhole
		internal/child: TestAHostThatIsKilledLeavesNothingInItsTreeOfCgroups`},

	// Faults.
	{"nothing outlives a host that is killed: its groups, what left its group, programs; a guard that dies is replaced", `
		internal/child: TestAHostThatIsKilledLeavesNoneOfItsProcessesBehind
		internal/child: TestAGuardThatDiesIsReplacedAndKnowsAllAgain
		internal/child: TestTheGuardHearsNoSignalOfATerminal
		internal/child: TestWhatAChildLeavesInAnotherSessionEndsWithTheSpawner
		internal/child: TestAChildIsAskedByItsOwnSignal
		cmd/guado: TestAProgramEndsWithAHostThatWasKilledAndIsAskedFirst
		test/chaos: TestAHostThatIsKilledLeavesNobodyBehind`},
	{"a worker that exits at import, or after a second, or fills its output", `
		test/chaos: TestApplicationsThatMisbehaveLeaveTheOthersServing`},
	{"a worker that ignores SIGTERM", `
		test/chaos: TestAWorkerThatDoesNotEndPrintsItsStacksAndIsKilled`},
	{"a worker that starts a process in its group, and one in a session of its own", `
		internal/supervise: TestWhatAWorkerLeavesBehindEndsWithIt
		test/chaos: TestAHostThatIsKilledLeavesNobodyBehind`},
	{"a worker that leaks, and one that takes all there is", `
		test/chaos: TestAWorkerThatLeaksIsReplacedWithoutALostRequest
		test/chaos: TestAWorkerThatTheKernelKillsForWantOfMemoryIsNamedAndReplaced`},
	{"a worker that deadlocks with the GIL held", `
		test/chaos: TestAWorkerThatKeepsTheGILForEverIsReplaced`},
	{"a program that is never ready", `
		internal/program: TestAProgramThatIsNeverReadyHoldsOnlyWhatComesAfterIt
		internal/program: TestAProgramThatIsNotReadyInTimeIsAFailedStart
		.: TestAProgramThatIsNeverReadyHoldsOnlyTheAppsThatWaitForIt`},
	{"a request that is stuck in sleep, recv, acquire, get, a loop, or C with the GIL", `
		python/tests/test_interrupt.py: test_a_call_that_waits_in_the_system_is_left_alone_and_its_stack_is_logged
		python/tests/test_interrupt.py: test_a_python_loop_raises_request_timeout
		python/tests/test_interrupt.py: test_code_that_holds_the_gil_is_seen_by_the_watch_thread
		python/tests/test_interrupt.py: test_a_task_that_waits_is_cancelled
		python/tests/test_interrupt.py: test_the_cleanup_of_a_cancelled_task_is_not_interrupted
		python/tests/test_interrupt.py: test_waits_for_the_client_are_woken_and_raise_once
		python/tests/test_interrupt.py: test_a_wait_for_an_executor_is_woken
		.: TestTheOtherRequestsOfAnInterruptedWorkerFinishFirst`},
}

func TestEachPromiseOfSupervisionIsHeldByATest(t *testing.T) {
	for _, p := range promises {
		for _, test := range strings.Split(strings.TrimSpace(p.tests), "\n") {
			where, name, ok := strings.Cut(strings.TrimSpace(test), ": ")
			if !ok {
				t.Fatalf("%s: %q names no test", p.promise, test)
			}
			pattern, definition := filepath.Join(where, "*_test.go"), "\nfunc "+name+"(t *testing.T) {"
			if strings.HasSuffix(where, ".py") {
				pattern, definition = where, "\ndef "+name+"("
			}
			files, err := filepath.Glob(filepath.Join("..", "..", pattern))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				found = found || strings.Contains(string(text), definition)
			}
			if !found {
				t.Errorf("%s: there is no %s in %s", p.promise, name, where)
			}
		}
	}
}
