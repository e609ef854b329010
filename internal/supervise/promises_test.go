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
	tests   []string // "folder: TestName", from the root of the project
}{
	{"readiness by a message over an inherited descriptor, bounded by a boot timeout", []string{
		"internal/supervise: TestAWorkerThatIsReadyIsGivenToThePool", "internal/supervise: TestABootThatSaysNothingEndsAtItsTimeout"}},
	{"exponential back-off with jitter, forgotten by serving", []string{
		"internal/supervise: TestThePauseGrowsToItsMostAndIsNeverTheSameForAll", "internal/supervise: TestFailuresAreForgottenByServing"}},
	{"a boot that fails and a death soon after READY are put off, a later one is an accident", []string{
		"internal/supervise: TestAWorkerThatDiesAgainAndAgainIsPutOff", "internal/supervise: TestAWorkerThatDiesAfterServingStartsAgainAtOnce"}},
	{"who fails too often is frozen with its last lines; all others and the server go on", []string{
		"internal/supervise: TestAWorkerThatFailsTooOftenIsFrozenWithItsOutput", "internal/supervise: TestAFrozenSlotLeavesTheOthersServing",
		"test/chaos: TestApplicationsThatMisbehaveLeaveTheOthersServing"}},
	{"SIGTERM, stacks of all threads, SIGKILL to the process group", []string{
		"test/chaos: TestAWorkerThatDoesNotEndPrintsItsStacksAndIsKilled", "internal/supervise: TestAWorkerThatDoesNotHearIsKilledAfterItsTime"}},
	{"nothing outlives the host, however it ends", []string{
		"internal/child: TestAHostThatIsKilledLeavesNoneOfItsProcessesBehind", "internal/child: TestAHostThatIsKilledWithItsGuardLeavesNoChildBehind",
		"internal/child: TestAGuardThatDiesIsReplacedAndKnowsAllAgain", "internal/child: TestTheGuardHearsNoSignalOfATerminal",
		"internal/child: TestWhatAChildLeavesInAnotherSessionEndsWithTheSpawner", "internal/child: TestADelegatedCgroupIsDividedAndKilledAsAWhole",
		"test/chaos: TestAHostThatIsKilledLeavesNobodyBehind"}},
	{"orphans are reaped, and no known child's exit is stolen", []string{
		"internal/child: TestOrphansAreReapedAndTheExitsOfOurOwnAreNot"}},
	{"replacement after requests, age and memory, each with jitter or samples; more than the hard limit kills", []string{
		"internal/supervise: TestAWorkerThatHasServedItsTimeIsReplaced", "internal/supervise: TestAWorkerOverItsHardMemoryLimitIsKilled",
		"test/chaos: TestAWorkerIsReplacedAfterItsRequestsWithoutALostOne", "test/chaos: TestAWorkerThatLeaksIsReplacedWithoutALostRequest"}},
	{"one replacement at a time, the new one before the old one, and never fewer", []string{
		"internal/supervise: TestOneWorkerOfAGroupIsReplacedAtATime", "internal/supervise: TestAReplacedWorkerServesUntilItsSuccessorDoes",
		"internal/supervise: TestAWorkerWhoseSuccessorCannotBootGoesOn"}},
	{"a heartbeat of the process, of Python and of the loop; stacks before the kill", []string{
		"internal/supervise: TestAStoppedWorkerIsKilledAndStartedAgain", "test/chaos: TestAWorkerThatKeepsTheGILForEverIsReplaced"}},
	{"output by line, prefixed, limited, counted, kept", []string{
		"internal/supervise: TestOutputPassesByWholeLinesOfBoundedLength", "internal/supervise: TestAFloodOfLinesIsSuppressedAndCounted",
		"internal/supervise: TestALineOfJSONIsPassedOnAsItIs"}},
	{"a kill for want of memory is named", []string{
		"internal/child: TestAKillIsBlamedOnWantOfMemoryOnceForEachThatTheKernelCounts"}},
	{"account, umask, limits", []string{
		"internal/child: TestTheFirstStepSetsWhatOnlyTheProcessItselfCan", "test/chaos: TestAWorkerRunsUnderTheAccountAndLimitsThatItsGroupNames"}},
}

func TestEachPromiseOfSupervisionIsHeldByATest(t *testing.T) {
	for _, p := range promises {
		for _, test := range p.tests {
			folder, name, _ := strings.Cut(test, ": ")
			files, err := filepath.Glob(filepath.Join("..", "..", folder, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				found = found || strings.Contains(string(text), "func "+name+"(")
			}
			if !found {
				t.Errorf("%s: there is no %s in %s", p.promise, name, folder)
			}
		}
	}
}
