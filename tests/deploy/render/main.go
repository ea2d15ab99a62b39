// Render prints what Helm and kustomize make of the files in deploy/, through the engines of those
// two programs themselves, so that tests need neither of them installed nor a network:
//
//	render helm CHART NAMESPACE [VALUES]   the objects of the chart, as `helm template weir CHART`
//	render notes CHART NAMESPACE [VALUES]  what `helm install` tells people afterwards
//	render kustomize FOLDER                the objects of the folder, as `kubectl kustomize FOLDER`
package main

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	text, err := render(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	fmt.Print(text)
}

func render(words []string) (string, error) {
	switch {
	case len(words) == 2 && words[0] == "kustomize":
		return kustomize(words[1])
	case len(words) >= 3 && words[0] == "helm":
		return helm(words[1:], func(file string) bool { return strings.HasSuffix(file, ".yaml") })
	case len(words) >= 3 && words[0] == "notes":
		return helm(words[1:], func(file string) bool { return path.Base(file) == "NOTES.txt" })
	default:
		return "", fmt.Errorf("usage: render helm|notes CHART NAMESPACE [VALUES] | render kustomize FOLDER")
	}
}

func kustomize(folder string) (string, error) {
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return "", err
	}
	text, err := made.AsYaml()
	return string(text), err
}

// helm renders those files of the chart that are wanted, in the order of their names. A value that a
// template asks for and nobody gives is an error, and so is one that the chart's schema refuses.
func helm(words []string, wanted func(file string) bool) (string, error) {
	chart, err := loader.Load(words[0])
	if err != nil {
		return "", err
	}
	given := map[string]any{}
	if len(words) > 2 {
		file, err := os.Open(words[2])
		if err != nil {
			return "", err
		}
		defer file.Close()
		if given, err = loader.LoadValues(file); err != nil {
			return "", err
		}
	}
	release := common.ReleaseOptions{Name: "weir", Namespace: words[1], Revision: 1, IsInstall: true}
	values, err := util.ToRenderValues(chart, given, release, common.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	files, err := engine.Engine{Strict: true}.Render(chart, values)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, file := range slices.Sorted(maps.Keys(files)) {
		content := strings.TrimSpace(files[file])
		switch {
		case !wanted(file) || content == "":
		case strings.HasSuffix(file, ".yaml"):
			text.WriteString("---\n" + content + "\n")
		default:
			text.WriteString(content + "\n")
		}
	}
	return text.String(), nil
}
