module afd.invalid/pause

go 1.26.0

tool afd.invalid/pause
